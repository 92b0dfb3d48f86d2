package firecracker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// machine is one Firecracker process. Its watch goroutine is the only one that
// decides that it has ended.
type machine struct {
	handle  vm.Handle
	jail    *jail
	socks   *monitor.Dir
	proc    *monitor.Process
	api     *client
	console monitor.Console
	output  *monitor.Reader // of the guest's console
	logs    *monitor.Reader // of Firecracker's own
	log     monitor.Tail

	turn     chan struct{} // has the one who changes what the guest does
	release  context.CancelFunc
	released context.Context
	watching chan struct{}

	done   chan struct{}
	mu     sync.Mutex
	killed bool
	err    error // after done
}

func newMachine(h vm.Handle) *machine {
	m := &machine{
		handle: h, console: monitor.Console{Dir: h.Dir}, turn: make(chan struct{}, 1),
		watching: make(chan struct{}), done: make(chan struct{}),
	}
	m.released, m.release = context.WithCancel(context.Background())
	return m
}

// connect makes the client of a process that runs.
func (m *machine) connect() {
	m.api = newClient(func(ctx context.Context) (net.Conn, error) {
		return m.socks.Dial(ctx, apiSocket, m.proc.Done())
	})
}

// read begins to read what the guest and Firecracker print.
func (m *machine) read() (err error) {
	if m.output, err = monitor.ReadPipe(m.jail.console(), m.console.Keep); err != nil {
		return err
	}
	m.logs, err = monitor.ReadPipe(filepath.Join(m.jail.root, logFile), m.log.Keep)
	return err
}

// Adopt takes over a Firecracker that runs. Whether it answers is not asked: it
// may be stopped, and must be killable all the same.
func (d *driver) Adopt(ctx context.Context, h vm.Handle) (vm.Machine, error) {
	gone := func(err error) error {
		return wire.Errorf(wire.NotFound, "adopting machine %q: it is gone: %w", h.ID, err)
	}
	if id, ok := machineOf(monitor.Args(h.PID)); !ok || id != h.ID {
		return nil, gone(fmt.Errorf("process %d is not its Firecracker", h.PID))
	}
	proc, err := monitor.FindProcess(h.PID, h.StartTime)
	if err != nil {
		return nil, gone(err)
	}
	m := newMachine(h)
	m.proc = proc
	if m.jail, err = findJail(h); err == nil {
		m.socks, err = monitor.OpenDir(m.jail.root)
	}
	if err != nil {
		proc.Forget()
		return nil, wire.Errorf(wire.Internal, "adopting machine %q: %w", h.ID, err)
	}
	m.connect()
	if v, err := parseVersion(h.Version); err == nil {
		m.api.version = v
	}
	// A machine without its pipes is one all the same.
	_ = m.read()
	go m.watch()
	return m, ctx.Err()
}

// watch waits for the end of the process.
func (m *machine) watch() {
	defer close(m.watching)
	select {
	case <-m.proc.Done():
		m.finish()
	case <-m.released.Done():
	}
}

// finish says why the process ended, and removes what it left.
func (m *machine) finish() {
	m.output.Wait()
	m.logs.Wait()
	why := m.ending()
	m.mu.Lock()
	if why != nil {
		m.err = wire.Errorf(wire.Unavailable, "machine %q %w", m.handle.ID, why)
	}
	m.mu.Unlock()
	m.close()
	_ = m.jail.remove()
	close(m.done)
}

// discard ends a machine that never became one.
func (m *machine) discard() {
	if m.proc != nil {
		_ = m.proc.Kill()
	}
	m.close()
	if m.jail != nil {
		_ = m.jail.remove()
	}
}

// close lets go of everything but the process.
func (m *machine) close() {
	m.release()
	m.output.Close()
	m.logs.Close()
	if m.socks != nil {
		m.socks.Close()
	}
	if m.proc != nil {
		m.proc.Forget()
	}
}

// Handle is what to remember it by.
func (m *machine) Handle() vm.Handle { return m.handle }

// Pause stops the guest's CPUs.
func (m *machine) Pause(ctx context.Context) error {
	return m.change(ctx, "pausing", func(v version) error {
		if deafAfterResume.in(v) {
			return m.stop(ctx)
		}
		return m.api.setState(ctx, askPause)
	})
}

// stop has the process stand still, and its guest with it.
func (m *machine) stop(ctx context.Context) error {
	if err := m.proc.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	for wait := 50 * time.Microsecond; !monitor.Stopped(m.handle.PID); wait *= 2 {
		select {
		case <-m.proc.Done():
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(wait, 5*time.Millisecond)):
		}
	}
	return nil
}

// Resume lets them go on.
func (m *machine) Resume(ctx context.Context) error {
	return m.change(ctx, "resuming", func(v version) error {
		// Stopped by whatever version's way, it must run to be asked anything.
		if err := m.proc.Signal(unix.SIGCONT); err != nil {
			return err
		}
		// One that runs isn't told to: some versions' guests get deaf by that, too.
		info, err := m.api.info(ctx)
		if err != nil || info.State == stateRunning {
			return err
		}
		return m.api.setState(ctx, askResume)
	})
}

// ResizeDrive makes Firecracker open the drive's file again and tell the guest.
func (m *machine) ResizeDrive(ctx context.Context, drive int, _ int64) error {
	return m.change(ctx, "resizing a drive of", func(version) error {
		if monitor.Stopped(m.handle.PID) {
			return wire.Errorf(wire.Conflict, "it is paused, and its version can't be asked then")
		}
		return m.api.updateDrive(ctx, driveUpdate{DriveID: driveName(drive), PathOnHost: driveName(drive)})
	})
}

// change asks for something while nobody else does, of a machine that lives.
func (m *machine) change(ctx context.Context, doing string, f func(version) error) error {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return wire.Errorf(wire.Timeout, "%s machine %q: %w", doing, m.handle.ID, ctx.Err())
	}
	err := m.gone()
	if err == nil {
		err = m.know(ctx)
	}
	if err == nil {
		err = f(m.api.version)
	}
	if err == nil {
		return nil
	}
	if gone := m.gone(); gone != nil {
		return fmt.Errorf("%s: %w", doing, gone)
	}
	code, hint := classify(ctx, err, wire.Conflict)
	e := wire.Errorf(code, "%s machine %q: %w", doing, m.handle.ID, err)
	e.Hint = hint
	return e
}

// know has the version known: a handle that was found has none. A process that
// is stopped is of one whose pause that is, and can't be asked.
func (m *machine) know(ctx context.Context) error {
	if m.api.version != (version{}) {
		return nil
	}
	if monitor.Stopped(m.handle.PID) {
		m.api.version = deafAfterResume.from
		return nil
	}
	_, err := m.api.start(ctx)
	return err
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

// Console returns what the guest has printed.
func (m *machine) Console(context.Context) (io.ReadCloser, error) {
	r, err := m.console.Open()
	if err != nil {
		return nil, wire.Errorf(wire.Internal, "reading the console of machine %q: %w", m.handle.ID, err)
	}
	return r, nil
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

// Halted never happens: Firecracker tells the guest of a full disk.
func (m *machine) Halted() <-chan error { return nil }

// Waits is never so.
func (m *machine) Waits(context.Context) (bool, error) { return false, m.gone() }

// Release lets go of a machine that goes on.
func (m *machine) Release() error {
	m.release()
	<-m.watching
	m.close()
	return nil
}
