package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// machine is one QEMU process. Its watch goroutine is the only one that
// decides that it has ended.
type machine struct {
	handle  vm.Handle
	socks   *monitor.Dir
	proc    *monitor.Process
	stderr  *stderrTail // nil if it can't be had
	console console

	// qmp is set once ready is closed: at once after a boot, but an adopted
	// QEMU may be slow to answer, and must be killable all the same.
	qmp   *qmp
	ready chan struct{}

	stopped  chan struct{} // QEMU stopped the guest: look why
	halted   chan error    // it did because the host's disk is full
	release  context.CancelFunc
	released context.Context
	watching chan struct{}

	done   chan struct{}
	mu     sync.Mutex
	killed bool
	cause  *ending // why the guest ended, when QEMU could say
	err    error   // after done
}

// ioError is QEMU's state after a write that found no room: the drives' werror=enospc.
const ioError = "io-error"

// ending is how a guest ended.
type ending struct {
	status string // QEMU's run state
	err    error
}

func newMachine(h vm.Handle, s *monitor.Dir) *machine {
	m := &machine{
		handle: h, socks: s, console: console{Console: monitor.Console{Dir: h.Dir}},
		ready: make(chan struct{}), stopped: make(chan struct{}, 1), halted: make(chan error, 1),
		watching: make(chan struct{}), done: make(chan struct{}),
	}
	m.released, m.release = context.WithCancel(context.Background())
	return m
}

// Adopt takes over a QEMU that runs. Its control socket may be slow, or taken
// by another process of ours: the machine can be killed and dialled anyway.
func (d *driver) Adopt(ctx context.Context, h vm.Handle) (vm.Machine, error) {
	gone := func(err error) error {
		return wire.Errorf(wire.NotFound, "adopting machine %q: it is gone: %w", h.ID, err)
	}
	if id, _, ok := machineOf(monitor.Args(h.PID)); !ok || id != h.ID {
		return nil, gone(fmt.Errorf("process %d is not its QEMU", h.PID))
	}
	proc, err := monitor.FindProcess(h.PID, h.StartTime)
	if err != nil {
		return nil, gone(err)
	}
	socks, err := monitor.OpenDir(h.Dir)
	if err != nil {
		proc.Forget()
		return nil, wire.Errorf(wire.Internal, "adopting machine %q: %w", h.ID, err)
	}
	m := newMachine(h, socks)
	m.proc, m.stderr = proc, reopenStderr(h.PID)
	go m.watch()
	return m, ctx.Err()
}

// connect shakes hands with QEMU. A bad greeting is QEMU's end or a stranger.
func (m *machine) connect(ctx context.Context) error {
	conn, err := m.socks.Dial(ctx, qmpSocket, m.proc.Done())
	if err != nil {
		return err
	}
	q, err := newQMP(ctx, conn, func(e qmpEvent) {
		if e.Event == "STOP" || e.Event == "SHUTDOWN" {
			select {
			case m.stopped <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	m.qmp = q
	close(m.ready)
	return nil
}

// watch waits for the end of the guest, and then of the process.
func (m *machine) watch() {
	defer close(m.watching)
	if m.qmp == nil {
		if m.connect(m.alive()) != nil {
			// Only the process's end is left to see.
			select {
			case <-m.proc.Done():
				m.finish()
			case <-m.released.Done():
			}
			return
		}
		m.look() // it may have ended while nobody watched
	}
	for {
		select {
		case <-m.stopped:
			m.look()
		case <-m.proc.Done():
			m.finish()
			return
		case <-m.released.Done():
			return
		}
	}
}

// alive is a context that ends when the machine is released or ends.
func (m *machine) alive() context.Context {
	ctx, cancel := context.WithCancel(m.released)
	go func() {
		defer cancel()
		select {
		case <-m.proc.Done():
		case <-m.released.Done():
		}
	}()
	return ctx
}

// look asks QEMU why it stopped the guest. Unless we did, the guest has ended:
// its last words are read, and then QEMU goes too.
func (m *machine) look() {
	ctx, cancel := context.WithTimeout(m.released, 10*time.Second)
	defer cancel()
	var s struct{ Status string }
	if m.qmp.do(ctx, "query-status", nil, &s) != nil {
		return // its end will tell
	}
	end := &ending{status: s.Status}
	switch s.Status {
	case "shutdown":
	case ioError:
		select {
		case m.halted <- wire.Errorf(wire.Exhausted, "the host's disk is full; the machine waits for room").
			WithHint("free some space, then: bandsox resume %s", m.handle.ID):
		default:
		}
		return
	case "guest-panicked", "internal-error":
		end.err = errors.New("QEMU stopped it: " + s.Status)
	default:
		return
	}
	_ = m.console.drain(ctx, m.qmp)
	if why := m.console.Panic(); why != "" && end.err == nil {
		end.err = errors.New("the guest's kernel panicked: " + why)
	}
	m.mu.Lock()
	m.cause = end
	m.mu.Unlock()
	// quit flushes, a signal doesn't; but a QEMU that stays isn't waited for.
	_ = m.qmp.do(ctx, "quit", nil, nil)
	select {
	case <-m.proc.Done():
	case <-ctx.Done():
		if m.released.Err() == nil {
			_ = m.proc.Kill()
		}
	}
}

// finish says why the process ended, and removes what it left.
func (m *machine) finish() {
	m.stderr.wait()
	m.mu.Lock()
	switch {
	case m.cause != nil && m.cause.err == nil:
	case m.cause != nil:
		m.err = wire.Errorf(wire.Unavailable, "machine %q ended: %w", m.handle.ID, m.cause.err)
	case m.killed:
		m.err = wire.Errorf(wire.Unavailable, "machine %q was killed", m.handle.ID)
	default:
		m.err = wire.Errorf(wire.Unavailable, "machine %q ended: %s", m.handle.ID, m.lastWords())
	}
	m.mu.Unlock()
	_ = removeSockets(m.socks)
	m.close()
	close(m.done)
}

// lastWords is what there is to say of a QEMU that went by itself.
func (m *machine) lastWords() string {
	s := "QEMU ended, and its exit status went to the process that had started it"
	if state := m.proc.State(); state != nil {
		s = "QEMU ended: " + state.String()
	}
	if words := m.stderr.String(); words != "" {
		s += ": " + words
	}
	return s
}

// discard ends a machine that never became one.
func (m *machine) discard() {
	if m.proc != nil {
		_ = m.proc.Kill()
	}
	_ = removeSockets(m.socks)
	m.close()
}

// close lets go of everything but the process.
func (m *machine) close() {
	m.release()
	if m.qmp != nil {
		_ = m.qmp.Close()
	}
	m.stderr.Close()
	m.socks.Close()
	if m.proc != nil {
		m.proc.Forget()
	}
}

// Handle is what to remember it by.
func (m *machine) Handle() vm.Handle { return m.handle }

// Dial connects to the agent's port. What is sent waits there until the guest
// opens it.
func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := m.socks.Dial(ctx, agentSocket, m.done)
	if err == nil {
		return conn, nil
	}
	if err := m.gone(); err != nil {
		return nil, fmt.Errorf("dialling the agent: %w", err)
	}
	return nil, wire.Errorf(monitor.CodeOfContext(ctx), "dialling the agent of machine %q: %w", m.handle.ID, err)
}

// Pause stops the guest's CPUs.
func (m *machine) Pause(ctx context.Context) error { return m.command(ctx, "pausing", "stop", nil) }

// Resume lets them go on.
func (m *machine) Resume(ctx context.Context) error { return m.command(ctx, "resuming", "cont", nil) }

// ResizeDrive makes QEMU look at the drive's file again and tell the guest.
func (m *machine) ResizeDrive(ctx context.Context, drive int, size int64) error {
	return m.command(ctx, "resizing a drive of", "block_resize", map[string]any{"node-name": driveName(drive), "size": size})
}

// command runs one QMP command on a machine that lives.
func (m *machine) command(ctx context.Context, doing, command string, args any) error {
	err := m.do(ctx, command, args, nil)
	if err == nil {
		return nil
	}
	if gone := m.gone(); gone != nil {
		return fmt.Errorf("%s: %w", doing, gone)
	}
	var refused *qmpError
	code := monitor.CodeOfContext(ctx)
	if errors.As(err, &refused) {
		code = wire.Conflict
	}
	return wire.Errorf(code, "%s machine %q: %w", doing, m.handle.ID, err)
}

// withQMP waits for the connection to QEMU, and calls f with it.
func (m *machine) withQMP(ctx context.Context, f func(*qmp) error) error {
	select {
	case <-m.ready:
		return f(m.qmp)
	case <-m.done:
		return errQMPClosed
	case <-m.released.Done():
		return errors.New("the machine was released")
	case <-ctx.Done():
		return fmt.Errorf("QEMU's control socket does not answer: %w", ctx.Err())
	}
}

// gone is why the machine has ended, or nil if it has not.
func (m *machine) gone() error {
	select {
	case <-m.done:
	default:
		return nil
	}
	if m.err != nil {
		return m.err
	}
	return wire.Errorf(wire.Unavailable, "machine %q has powered off", m.handle.ID)
}

// Console returns what the guest has printed. What QEMU can't be asked for any
// more was read before it went.
func (m *machine) Console(ctx context.Context) (io.ReadCloser, error) {
	err := m.withQMP(ctx, func(q *qmp) error { return m.console.drain(ctx, q) })
	if err != nil && m.gone() == nil && !errors.Is(err, errQMPClosed) {
		return nil, wire.Errorf(monitor.CodeOfContext(ctx), "reading the console of machine %q: %w", m.handle.ID, err)
	}
	return m.console.Open()
}

// Kill ends the process and returns when it is gone.
func (m *machine) Kill() error {
	select {
	case <-m.done:
		return nil
	case <-m.released.Done():
		<-m.watching
		if m.gone() != nil { // both: it ended, which releases too
			return nil
		}
		return wire.Errorf(wire.Conflict, "killing machine %q: it was released", m.handle.ID)
	default:
	}
	m.mu.Lock()
	m.killed = true
	m.mu.Unlock()
	if err := m.proc.Kill(); err != nil {
		return wire.Errorf(wire.Internal, "machine %q: %w", m.handle.ID, err)
	}
	<-m.watching
	return nil
}

// Done is closed when the process is gone.
func (m *machine) Done() <-chan struct{} { return m.done }

// Err says why.
func (m *machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Halted tells when the guest was stopped because the host's disk is full.
func (m *machine) Halted() <-chan error { return m.halted }

// Waits asks QEMU whether that is so now.
func (m *machine) Waits(ctx context.Context) (bool, error) {
	var s struct{ Status string }
	err := m.do(ctx, "query-status", nil, &s)
	return s.Status == ioError, err
}

// Release lets go of a machine that goes on.
func (m *machine) Release() error {
	m.release()
	<-m.watching
	m.close()
	return nil
}
