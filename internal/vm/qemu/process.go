package qemu

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running program, known by a pidfd: its number may be given to
// another one, the pidfd never is.
type process struct {
	pid   int
	start uint64
	fd    *os.File
	child *os.Process // nil if another process started it
	done  chan struct{}
	state *os.ProcessState // after done, of a child
}

// startProcess starts argv in a session of its own, so that it outlives us and
// gets no signal of our terminal. files are its file descriptors.
func startProcess(argv []string, dir string, files []*os.File) (*process, error) {
	// What we inherited without close-on-exec from who started us, a shell's
	// lock for one, would be held as long as the machine runs.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	child, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: dir, Env: environ(), Files: files, Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	p := &process{pid: child.Pid, child: child, done: make(chan struct{})}
	if err := p.open(); err != nil {
		_ = child.Kill()
		_, _ = child.Wait()
		return nil, err
	}
	go p.wait()
	return p, nil
}

// findProcess takes hold of a process that another one started.
func findProcess(pid int, start uint64) (*process, error) {
	p := &process{pid: pid, done: make(chan struct{})}
	if err := p.open(); err != nil {
		return nil, err
	}
	if p.start != start { // checked with the pidfd in hand
		_ = p.fd.Close()
		return nil, fmt.Errorf("process %d is another one now", pid)
	}
	go p.wait()
	return p, nil
}

// open gets the pidfd, and the time when the process started.
func (p *process) open() error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return fmt.Errorf("opening process %d: %w", p.pid, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go's poller takes it
		_ = unix.Close(fd)
		return fmt.Errorf("opening process %d: %w", p.pid, err)
	}
	p.fd = os.NewFile(uintptr(fd), "pidfd")
	if p.start, err = startTime(p.pid); err != nil {
		_ = p.fd.Close()
		return err
	}
	return nil
}

// wait closes done when the process has ended. It holds no thread.
func (p *process) wait() {
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

// forget lets go of a process that another one started, and which has not
// ended. One of ours is still reaped, or it would stay a zombie.
func (p *process) forget() {
	if p.child == nil {
		_ = p.fd.Close()
		<-p.done
	}
}

// kill ends it and returns when it is gone.
func (p *process) kill() error {
	conn, err := p.fd.SyscallConn()
	if err == nil {
		var killed error
		err = conn.Control(func(fd uintptr) { killed = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
		if err == nil && !errors.Is(killed, unix.ESRCH) {
			err = killed
		}
	}
	if err != nil {
		select {
		case <-p.done:
			return nil
		default:
			return fmt.Errorf("killing process %d: %w", p.pid, err)
		}
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second): // it waits for a disk that doesn't answer
		return fmt.Errorf("killing process %d: it is still there after 30 s", p.pid)
	}
}

// environ is what QEMU gets to see of ours: nothing secret.
func environ() []string {
	env := []string{"LC_ALL=C"}
	for _, k := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}
