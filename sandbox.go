package bandsox

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// Sandbox is one microVM. Its methods may be called by many goroutines at once.
type Sandbox struct {
	m  *Manager
	id string

	op  chan struct{}   // full while something changes the state: start, stop, delete…
	rec sync.Mutex      // held while the record is written
	owe []store.Sandbox // what a full disk didn't take of it; guarded by rec

	view *fileView // of a stopped one's files; guarded by op

	dialing  chan struct{} // full while the agent is being connected to
	programs programs

	mu      sync.Mutex // guards what follows
	info    Info
	owner   store.Owner
	machine vm.Machine
	client  *agent.Client
	lock    *store.FileLock // this process talks to the agent
	leave   func()          // lets those know that watch the machine that it is let go of
	halted  error           // why the machine stopped by itself and waits
	changed chan struct{}   // closed when info changes, or there is a client
	used    time.Time       // when it was used last, for its idle timeout
	acting  bool            // the timekeeper is at work on it
	notTill time.Time       // the timekeeper failed, and tries again then
	sample  sample          // what the last percentage of its CPU was made of
}

func newSandbox(m *Manager, info Info, owner store.Owner) *Sandbox {
	return &Sandbox{m: m, id: info.ID, info: info, owner: owner, op: make(chan struct{}, 1), dialing: make(chan struct{}, 1), changed: make(chan struct{}), used: usedAt(info)}
}

// ID is the sandbox's id.
func (sb *Sandbox) ID() string { return sb.id }

// Info returns what is known of the sandbox now.
func (sb *Sandbox) Info(ctx context.Context) (Info, error) {
	info, err := sb.fresh(ctx)
	return info, fail("info", sb.id, err)
}

// fresh is the sandbox's record as it is now.
func (sb *Sandbox) fresh(ctx context.Context) (Info, error) {
	info := sb.known()
	if sb.m.cfg.Shared {
		row, err := sb.m.store.Find(ctx, sb.id)
		if err != nil {
			return info, err
		}
		if info, err = decode(row); err != nil {
			return info, err
		}
		// A full disk may not have taken that.
		if why := sb.haltedWhy(); why != nil && info.Status == StateRunning {
			halt(why)(&info)
		}
	}
	if info.Status == StateDeleted {
		return info, wire.Errorf(CodeNotFound, "sandbox %s is deleted", sb.id)
	}
	return sb.m.trueState(ctx, info)
}

// known is the record as memory has it.
func (sb *Sandbox) known() Info {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.info
}

// answersTo reports whether it is there and has this id or name.
func (sb *Sandbox) answersTo(ref string) bool {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return ref != "" && (sb.id == ref || sb.info.Name == ref) && sb.info.Status != StateDeleted
}

func (sb *Sandbox) state() State { return sb.known().Status }

// trueState puts right what a record can't know: a machine that died while
// nobody watched.
func (m *Manager) trueState(ctx context.Context, info Info) (Info, error) {
	if info.Status != StateRunning && info.Status != StatePaused {
		return info, nil
	}
	m.mu.Lock()
	sb := m.live[info.ID]
	m.mu.Unlock()
	if sb != nil && sb.held() {
		return info, nil // its watcher tells
	}
	machine, err := m.adopt(ctx, info)
	if err == nil {
		return info, machine.Release()
	}
	if classify(err) == CodeNotFound {
		return machineGone(info), nil
	}
	return info, err
}

// machineGone is the record of a sandbox whose machine has ended unseen.
func machineGone(info Info) Info {
	doing := info.Doing
	info.PID, info.Machine, info.AgentReady, info.AutoResume, info.Doing = 0, nil, false, false, ""
	info.Status, info.Reason = StateFailed, "its machine is gone"
	if doing == string(opStop) || doing == string(opKill) {
		info.Status, info.Reason = StateStopped, ""
	}
	return info
}

func (m *Manager) adopt(ctx context.Context, info Info) (vm.Machine, error) {
	if info.Machine == nil {
		return nil, wire.Errorf(CodeNotFound, "sandbox %s has no machine", info.ID)
	}
	return m.driver.Adopt(ctx, *info.Machine)
}

func decode(row store.Sandbox) (Info, error) {
	var info Info
	if err := json.Unmarshal(row.Record, &info); err != nil {
		return info, wire.Errorf(CodeInternal, "reading the record of sandbox %s: %w", row.ID, err)
	}
	info.ID, info.Name, info.Status = row.ID, row.Name, State(row.State)
	return info, nil
}

func encode(info Info, owner store.Owner) (store.Sandbox, error) {
	b, err := json.Marshal(info)
	return store.Sandbox{ID: info.ID, Name: info.Name, State: string(info.Status), Owner: owner, Created: info.CreatedAt.Time, Record: b}, err
}

// save notes what has become of the sandbox and writes it down. It is so even
// if writing fails, for want of room say.
func (sb *Sandbox) save(ctx context.Context, change func(*Info)) error {
	return sb.record(ctx, change, true)
}

// wish changes the sandbox's info if that can be written down.
func (sb *Sandbox) wish(ctx context.Context, change func(*Info)) error {
	return sb.record(ctx, change, false)
}

func (sb *Sandbox) record(ctx context.Context, change func(*Info), fact bool) error {
	sb.rec.Lock()
	defer sb.rec.Unlock()
	return sb.recordNow(ctx, change, fact)
}

// recordNow is for those that hold sb.rec.
func (sb *Sandbox) recordNow(ctx context.Context, change func(*Info), fact bool) error {
	sb.mu.Lock()
	info, owner := sb.info, sb.owner
	sb.mu.Unlock()
	was := info.Status
	change(&info)
	if fact && was == StateDeleted {
		info.Status = StateDeleted // a machine that ends meanwhile doesn't bring it back
	}
	if fact {
		sb.become(info)
	}
	row, err := encode(info, owner)
	if err == nil {
		err = sb.write(ctx, row, fact)
	}
	if err == nil && !fact {
		sb.become(info)
	}
	return err
}

// maxOwed bounds what waits for a full disk. States come one at a time, each by
// an operation; those that are left out cost their events.
const maxOwed = 8

// write replaces the record's row. A fact gets the room that is kept for it; one
// that finds none even so is written before the next row, so that the events
// tell of both.
func (sb *Sandbox) write(ctx context.Context, row store.Sandbox, fact bool) error {
	err := sb.writeAll(ctx, row)
	if !fact || classify(err) != CodeExhausted {
		return err
	}
	if sb.m.store.GiveUpReserve() {
		err = sb.writeAll(ctx, row)
	}
	if err != nil {
		sb.owe = append(sb.owe, row)
		sb.owe = sb.owe[max(0, len(sb.owe)-maxOwed):]
	}
	return err
}

// writeAll writes what is owed, and row.
func (sb *Sandbox) writeAll(ctx context.Context, row store.Sandbox) error {
	for len(sb.owe) > 0 {
		if err := sb.m.update(ctx, sb.owe[0]); err != nil && classify(err) != CodeNotFound {
			return err
		}
		sb.owe = sb.owe[1:]
	}
	return sb.m.update(ctx, row)
}

// become makes info what memory knows, and wakes those that wait for it.
func (sb *Sandbox) become(info Info) {
	sb.mu.Lock()
	sb.info = info
	close(sb.changed)
	sb.changed = make(chan struct{})
	sb.mu.Unlock()
	sb.m.wakeTimekeeper()
}

// reload reads the record again, unless this process alone writes it.
func (sb *Sandbox) reload(ctx context.Context) error {
	if sb.held() {
		return nil
	}
	sb.mu.Lock()
	info, owner := sb.info, sb.owner
	sb.mu.Unlock()
	if sb.m.cfg.Shared {
		row, err := sb.m.store.Find(ctx, sb.id)
		if classify(err) == CodeNotFound && err != nil {
			info.Status = StateDeleted
		} else if err != nil {
			return err
		} else if info, err = decode(row); err != nil {
			return err
		} else {
			owner = row.Owner
		}
	}
	info, err := sb.m.trueState(ctx, info)
	if err != nil {
		return err
	}
	sb.mu.Lock()
	sb.info, sb.owner = info, owner
	sb.mu.Unlock()
	return nil
}

func (sb *Sandbox) lockOp(ctx context.Context) error {
	select {
	case sb.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (sb *Sandbox) unlockOp() { <-sb.op }

// running returns the machine's agent, connecting to it if need be. This is a
// use: it counts against the idle timeout, and wakes what was paused for it.
func (sb *Sandbox) running(ctx context.Context) (*agent.Client, error) {
	return sb.agentFor(ctx, opUse)
}

// peek is running for what is no use: a look at figures.
func (sb *Sandbox) peek(ctx context.Context) (*agent.Client, error) {
	return sb.agentFor(ctx, opLook)
}

func (sb *Sandbox) agentFor(ctx context.Context, op operation) (*agent.Client, error) {
	if sb.state() == StateCreating {
		return nil, sb.refuse(op, StateCreating) // its creator has the lock for long
	}
	if err := sb.lockOp(ctx); err != nil {
		return nil, err
	}
	defer sb.unlockOp()
	if err := sb.reload(ctx); err != nil {
		return nil, err
	}
	if err := sb.haltedWhy(); err != nil {
		return nil, err
	}
	if op == opUse || op == opRead {
		sb.touch(ctx)
		if info := sb.known(); info.Status == StatePaused && info.AutoResume {
			if err := sb.resume(ctx); err != nil {
				return nil, err
			}
		}
	}
	if _, err := sb.permit(op); err != nil {
		return nil, err
	}
	if state := sb.state(); state == StateStopped || state == StateFailed {
		return sb.viewed(ctx)
	}
	return sb.connect(ctx)
}

// connect returns the agent to those that hold sb.op and know that it runs.
func (sb *Sandbox) connect(ctx context.Context) (*agent.Client, error) {
	machine, err := sb.inHand(ctx)
	if err != nil {
		return nil, err
	}
	if err := sb.haltedWhy(); err != nil {
		return nil, err
	}
	return sb.dial(ctx, machine)
}

// session is the agent if it is connected to, and what is closed when that
// changes.
func (sb *Sandbox) session() (*agent.Client, <-chan struct{}) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.client == nil || sb.client.Err() != nil {
		return nil, sb.changed
	}
	return sb.client, sb.changed
}

// dial connects to the agent of the machine in hand, unless that is done.
func (sb *Sandbox) dial(ctx context.Context, machine vm.Machine) (*agent.Client, error) {
	select {
	case sb.dialing <- struct{}{}:
		defer func() { <-sb.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if client, _ := sb.session(); client != nil {
		return client, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := agent.Connect(ctx, machine.Dial)
	if err != nil {
		if why := sb.haltedWhy(); why != nil { // who adopts a machine learns that meanwhile
			return nil, why
		}
		return nil, wire.Errorf(CodeUnavailable, "the agent of sandbox %s does not answer: %w", sb.id, err).
			WithHint("bandsox restart %s", sb.id)
	}
	sb.mu.Lock()
	mine := sb.machine == machine
	if mine {
		sb.client = client
		close(sb.changed)
		sb.changed = make(chan struct{})
	}
	sb.mu.Unlock()
	if !mine {
		_ = client.Close()
		return nil, wire.Errorf(CodeUnavailable, "the machine of sandbox %s has just been let go of", sb.id)
	}
	return client, nil
}

// remove deletes the sandbox's directory and record; its machine is gone.
func (m *Manager) remove(ctx context.Context, id string) error {
	if err := os.RemoveAll(m.store.Sandbox(id)); err != nil {
		return err
	}
	if err := m.store.Remove(ctx, id); err != nil {
		return err
	}
	m.forget(id)
	return nil
}

// forget takes a sandbox that is no more out of memory.
func (m *Manager) forget(id string) {
	m.mu.Lock()
	sb := m.live[id]
	delete(m.live, id)
	maps.DeleteFunc(m.names, func(_ string, named *Sandbox) bool { return named == sb })
	m.mu.Unlock()
	if sb != nil {
		info := sb.known()
		info.Status = StateDeleted
		sb.become(info)
	}
}
