package bandsox

import (
	"slices"

	"github.com/bandsox/bandsox/internal/wire"
)

// State is what a sandbox is doing.
type State string

// The states.
const (
	StateCreating State = "creating" // not ready yet, or its creator died
	StateRunning  State = "running"
	StatePaused   State = "paused"
	StateStopped  State = "stopped" // its disk is kept; Start boots it again
	StateFailed   State = "failed"  // its machine died by itself
	StateDeleted  State = "deleted" // being removed: a list does not show it
)

// states are all states, in the order of the table's columns.
var states = [...]State{StateCreating, StateRunning, StatePaused, StateStopped, StateFailed, StateDeleted}

// States are all states there are.
func States() []State { return slices.Clone(states[:]) }

// operation is what is done to a sandbox.
type operation string

const (
	opStart    operation = "start"
	opStop     operation = "stop"
	opKill     operation = "kill"
	opRestart  operation = "restart"
	opPause    operation = "pause"
	opResume   operation = "resume"
	opUpdate   operation = "update"
	opDelete   operation = "delete"
	opUse      operation = "use"  // run a program, write a file
	opRead     operation = "read" // look at files: a stopped sandbox's are read through a view
	opFork     operation = "fork"
	opSnapshot operation = "snapshot"
	opLook     operation = "look" // ask its agent what runs: no use, so it wakes nobody
)

// answer is what the table says of an operation in a state.
type answer string

const (
	allowed answer = "allowed"
	refused answer = "refused" // a conflict that names the state
	already answer = "no-op"   // it is so already: no error
	gone    answer = "gone"    // not_found
)

// table is who may do what when. Every method that changes or uses a sandbox
// asks it, under the sandbox's lock. docs/ARCHITECTURE.md shows it.
var table = []struct {
	op      operation
	answers [len(states)]answer
	to      State // where it leads; "" for nowhere else
}{
	//           creating  running  paused   stopped  failed   deleted
	{opStart, row(refused, refused, refused, allowed, allowed, gone), StateRunning},
	{opStop, row(refused, allowed, allowed, refused, refused, gone), StateStopped},
	{opKill, row(refused, allowed, allowed, refused, refused, gone), StateStopped},
	{opRestart, row(refused, allowed, allowed, allowed, allowed, gone), StateRunning},
	{opPause, row(refused, allowed, already, refused, refused, gone), StatePaused},
	{opResume, row(refused, already, allowed, refused, refused, gone), StateRunning},
	{opUpdate, row(refused, allowed, allowed, allowed, allowed, gone), ""},
	{opDelete, row(refused, allowed, allowed, allowed, allowed, allowed), StateDeleted},
	{opUse, row(refused, allowed, refused, refused, refused, gone), ""},
	{opRead, row(refused, allowed, refused, allowed, allowed, gone), ""},
	{opSnapshot, row(refused, allowed, allowed, refused, refused, gone), ""},
	{opFork, row(refused, allowed, allowed, refused, refused, gone), ""},
	{opLook, row(refused, allowed, refused, refused, refused, gone), ""},
}

func row(a ...answer) [len(states)]answer { return [len(states)]answer(a) }

// ask looks an operation up in the table.
func ask(op operation, in State) answer {
	column := slices.Index(states[:], in)
	for _, r := range table {
		if r.op == op && column >= 0 {
			return r.answers[column]
		}
	}
	return refused
}

// permit asks the table whether op may be done now. done: there is nothing to
// do for it.
func (sb *Sandbox) permit(op operation) (done bool, err error) {
	state := sb.state()
	switch ask(op, state) {
	case allowed:
		return false, nil
	case already:
		return true, nil
	case gone:
		return false, wire.Errorf(CodeNotFound, "sandbox %s is deleted", sb.id)
	}
	return false, sb.refuse(op, state)
}

// refuse is the error of an operation that the table refuses. Its hint is the
// command that leads on.
func (sb *Sandbox) refuse(op operation, state State) error {
	e := wire.Errorf(CodeConflict, "can't %s sandbox %s: it is %s", op, sb.id, state)
	switch state {
	case StateCreating:
		return e.WithHint("bandsox wait %s", sb.id)
	case StateRunning:
		return e.WithHint("bandsox restart %s", sb.id)
	case StatePaused:
		return e.WithHint("bandsox resume %s", sb.id)
	}
	return e.WithHint("bandsox start %s", sb.id)
}
