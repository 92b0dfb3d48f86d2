package bandsox

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// programs are the processes of a sandbox whose end is still to be told: those
// that this manager started, and those that ran when it took the machine in
// hand. Whatever else a guest tells of is made up.
type programs struct {
	mu   sync.Mutex
	runs map[string]bool // by id: whether the start was told

	heard chan struct{} // closed when the witness of the machine in hand is through
}

// update writes a row. Where its machine has ended, so have all its processes.
func (m *Manager) update(ctx context.Context, row store.Sandbox) error {
	if s := State(row.State); s != StateStopped && s != StateFailed {
		return m.store.Update(ctx, row)
	}
	return m.store.UpdateEnded(ctx, row, func(process string) Event {
		return event(&row, EventProcessExited, map[string]string{"process": process, "reason": "the machine ended"})
	})
}

// begin is for a witness that begins; it calls what is returned when it is through.
func (p *programs) begin() (through func()) {
	heard := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = heard
	return func() { close(heard) }
}

// lastWords waits for what a machine that has ended had still said of its programs.
// It is in the socket already, so that it is soon.
func (p *programs) lastWords() {
	p.mu.Lock()
	heard := p.heard
	p.mu.Unlock()
	if heard == nil {
		return
	}
	select {
	case <-heard:
	case <-time.After(5 * time.Second):
	}
}

// drain waits for a session to end that has nobody at the other end any more.
func drain(client *agent.Client) {
	select {
	case <-client.Done():
	case <-time.After(5 * time.Second):
	}
}

// expect lets id be told of: it is about to be started.
func (p *programs) expect(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs == nil {
		p.runs = map[string]bool{}
	}
	if _, ok := p.runs[id]; !ok {
		p.runs[id] = false
	}
}

// clear is for another machine.
func (p *programs) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs = nil
}

// forget is for one that was not started after all.
func (p *programs) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.runs, id)
}

// noteStart tells that a program runs, unless that was told.
func (sb *Sandbox) noteStart(id string, argv []string, since time.Time) {
	p := &sb.programs
	p.mu.Lock()
	defer p.mu.Unlock()
	if told, ok := p.runs[id]; !ok || told {
		return
	}
	p.runs[id] = true
	d := map[string]string{"process": id, "argv": strings.Join(argv, " ")}
	at(d, "started", since)
	sb.m.store.NoteStart(id, sb.event(EventProcessStarted, d))
}

// noteExit tells how a program ended, unless that was told.
func (sb *Sandbox) noteExit(id string, e wire.Exit, when time.Time) {
	p := &sb.programs
	p.mu.Lock()
	defer p.mu.Unlock()
	if told, ok := p.runs[id]; !ok || !told {
		return
	}
	delete(p.runs, id)
	d := map[string]string{"process": id, "exit_code": strconv.Itoa(e.Code)}
	if e.Signal != 0 {
		d["signal"] = strconv.Itoa(e.Signal)
	}
	if e.Timeout {
		d["timeout"] = "true"
	}
	at(d, "ended", when)
	events := []Event{sb.event(EventProcessExited, d)}
	if e.OOM {
		oom := sb.event(EventOOM, map[string]string{"process": id, "mem_mib": strconv.Itoa(sb.memMiB())})
		events = []Event{oom, events[0]}
	}
	sb.m.store.NoteEnd(id, events...)
}

// at adds when a guest says that something was, where that isn't just now.
func at(details map[string]string, what string, when time.Time) {
	if !when.IsZero() {
		details[what] = when.UTC().Format(time.RFC3339)
	}
}

// witness writes down the starts and ends of programs that nobody else sees: of
// those that were left running, or whose session broke. It is there while the
// machine is in hand, which ctx says. An owner keeps a session for it; of those
// that share, it follows the sessions that are needed anyway. Found says that
// another manager may have started some of them.
func (sb *Sandbox) witness(ctx context.Context, machine vm.Machine, found bool) {
	for pause := time.Duration(0); ctx.Err() == nil; {
		client, changed := sb.session()
		if client == nil && !sb.m.cfg.Shared && sb.answering() {
			client, _ = sb.dial(ctx, machine)
		}
		began := time.Now()
		if client != nil {
			// The end of the session ends this: what a guest that is shut down says
			// last is heard, too.
			complete, _ := client.Follow(context.Background(),
				func(p wire.Process) { sb.listed(p, found) }, func(p wire.Process) { sb.saw(p, time.Time{}, time.Time{}) })
			found = found && !complete
		}
		if pause = min(max(2*pause, time.Second), time.Minute); time.Since(began) > time.Minute {
			pause = time.Second
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(pause):
		}
	}
}

// listed is told of a process that the guest has at the beginning of a session.
func (sb *Sandbox) listed(p wire.Process, found bool) {
	if found && store.ValidID(p.ID) {
		sb.programs.expect(p.ID)
	}
	sb.saw(p, p.Started, p.Ended)
}

func (sb *Sandbox) saw(p wire.Process, started, ended time.Time) {
	sb.noteStart(p.ID, p.Argv, started)
	if p.Exit != nil {
		sb.noteExit(p.ID, *p.Exit, ended)
	}
}
