package monitor

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a running program, known by a pidfd: its number may be given to
// another one, the pidfd never is.
type Process struct {
	PID   int
	Start uint64 // as StartTime has it

	fd    *os.File
	child *os.Process // nil if another process started it
	done  chan struct{}
	state *os.ProcessState
}

// StartProcess starts argv in a session of its own, so that it outlives us and
// gets no signal of our terminal. files are its file descriptors; sys may be nil.
func StartProcess(argv []string, dir string, files []*os.File, sys *syscall.SysProcAttr) (*Process, error) {
	// What we inherited without close-on-exec from who started us, a shell's
	// lock for one, would be held as long as the machine runs.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if sys == nil {
		sys = &syscall.SysProcAttr{}
	}
	sys.Setsid = true
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: dir, Env: Environ(), Files: files, Sys: sys})
	if err != nil {
		return nil, err
	}
	p := &Process{PID: child.Pid, child: child, done: make(chan struct{})}
	if err := p.open(); err != nil {
		_ = child.Kill()
		_, _ = child.Wait()
		return nil, err
	}
	go p.wait()
	return p, nil
}

// FindProcess takes hold of a process that another one started.
func FindProcess(pid int, start uint64) (*Process, error) {
	p := &Process{PID: pid, done: make(chan struct{})}
	if err := p.open(); err != nil {
		return nil, err
	}
	if p.Start != start { // checked with the pidfd in hand
		_ = p.fd.Close()
		return nil, fmt.Errorf("process %d is another one now", pid)
	}
	go p.wait()
	return p, nil
}

// open gets the pidfd, and the time when the process started.
func (p *Process) open() error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return fmt.Errorf("opening process %d: %w", p.PID, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go's poller takes it
		_ = unix.Close(fd)
		return fmt.Errorf("opening process %d: %w", p.PID, err)
	}
	p.fd = os.NewFile(uintptr(fd), "pidfd")
	if p.Start, err = StartTime(p.PID); err != nil {
		_ = p.fd.Close()
		return err
	}
	return nil
}

// wait closes done when the process has ended. It holds no thread.
func (p *Process) wait() {
	defer p.fd.Close()
	defer close(p.done)
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	ended := false
	_ = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		ended = n == 1 && err == nil
		return ended
	})
	if ended && p.child != nil {
		p.state, _ = p.child.Wait()
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// State is how a child of ours ended, once it has; nil of one that isn't.
func (p *Process) State() *os.ProcessState {
	<-p.done
	return p.state
}

// Forget lets go of a process that another one started, and which has not
// ended. One of ours is still reaped, or it would stay a zombie.
func (p *Process) Forget() {
	if p.child == nil {
		_ = p.fd.Close()
		<-p.done
	}
}

// Signal sends a signal; that the process has ended is no error.
func (p *Process) Signal(sig unix.Signal) error {
	conn, err := p.fd.SyscallConn()
	if err == nil {
		var failed error
		err = conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
		if err == nil && !errors.Is(failed, unix.ESRCH) {
			err = failed
		}
	}
	if err == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	default:
		return err
	}
}

// Kill ends it and returns when it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("killing process %d: %w", p.PID, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second): // it waits for a disk that doesn't answer
		return fmt.Errorf("killing process %d: it is still there after 30 s", p.PID)
	}
}
