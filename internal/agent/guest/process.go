package guest

import (
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// process is one that the host asked for. It outlives the stream that started
// it, and what is known of it outlives the process.
type process struct {
	s         *service
	id        string
	argv      []string
	dir       string
	user      string
	started   time.Time
	tty       *os.File    // the terminal's end that is ours, or nil
	stdin     *os.File    // where to write its input, or nil
	input     chan []byte // on its way there; nil is the end
	inputOver atomic.Bool // its end was sent
	pid       int
	cgroup    *cgroup // nil without cgroup2
	ring      *ring
	pumps     []*pump

	reaped bool // guarded by the reaper's hold: its pid may be another's
	status unix.WaitStatus
	usage  unix.Rusage
	ended  chan struct{} // closed when it was reaped

	mu       sync.Mutex
	timedOut bool
	finished time.Time
	exit     *wire.Exit
	over     chan struct{} // closed when exit is known
}

// launch starts what sp says as p, whose id is taken; run must follow. On an
// error nothing is left.
func (p *process) launch(r *wire.StartRequest, sp *spec) error {
	ends, err := p.open(r, sp)
	if err != nil {
		return wire.Errorf(wire.Exhausted, "starting %q: opening its input and output: %w", sp.argv[0], err)
	}
	defer ends.close()
	sys := &syscall.SysProcAttr{Setsid: true, Setctty: p.tty != nil, Credential: p.s.credential(sp.id)}
	if p.s.cgroups != nil {
		if p.cgroup, err = p.s.cgroups.create(p.id); err == nil {
			p.cgroup.attr(sys)
		} else { // the guest unmounted it, say: the process group must do
			p.s.log("making a cgroup for process %s: %v", p.id, err)
			p.cgroup = nil
		}
	}
	attr := &syscall.ProcAttr{Dir: sp.dir, Env: sp.env, Files: ends.files(), Sys: sys}
	p.started = time.Now()
	p.pid, err = p.s.reaper.fork(func() (int, error) { return syscall.ForkExec(sp.path, sp.argv, attr) }, p.reap)
	if err != nil {
		p.abandon()
		return startError(sp, err)
	}
	if p.cgroup != nil {
		p.cgroup.started()
	}
	p.pump(ends)
	if p.stdin != nil || p.tty != nil {
		p.s.wg.Go(p.feed)
	}
	return nil
}

// abandon undoes what launch did before it failed.
func (p *process) abandon() {
	for _, f := range []*os.File{p.tty, p.stdin} {
		if f != nil {
			f.Close()
		}
	}
	if p.cgroup != nil {
		p.cgroup.remove()
	}
}

func (p *process) pump(e *ends) {
	if p.tty != nil {
		p.pumps = []*pump{startPump(p.tty, wire.KindData, p.ring)}
		return
	}
	p.pumps = []*pump{startPump(e.stdout, wire.KindData, p.ring), startPump(e.stderr, wire.KindStderr, p.ring)}
	e.stdout, e.stderr = nil, nil
}

// reap is told by the reaper, with its lock held.
func (p *process) reap(status unix.WaitStatus, usage unix.Rusage) {
	p.reaped, p.status, p.usage = true, status, usage
	close(p.ended)
}

// run sees the process to its end.
func (p *process) run(timeout time.Duration) {
	var late <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-p.ended:
	case <-late:
		p.mu.Lock()
		p.timedOut = true
		p.mu.Unlock()
		p.kill()
		<-p.ended
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
	drain(p.pumps)
	exit := p.result()
	p.mu.Lock()
	p.exit, p.finished = exit, time.Now()
	p.mu.Unlock()
	p.s.retire(p)
	p.ring.finish(exit)
	close(p.over)
	p.s.tidy(p) // last: nobody waits for it
}

func (p *process) result() *wire.Exit {
	e := &wire.Exit{
		Code:      p.status.ExitStatus(),
		UserNS:    p.usage.Utime.Nano(),
		SystemNS:  p.usage.Stime.Nano(),
		MaxRSSKiB: int64(p.usage.Maxrss),
	}
	if p.status.Signaled() {
		e.Signal = int(p.status.Signal())
		e.Code = 128 + e.Signal
	}
	p.mu.Lock()
	e.Timeout = p.timedOut
	p.mu.Unlock()
	e.OOM = p.cgroup != nil && e.Code != 0 && p.cgroup.oomKilled()
	return e
}

// signal sends sig to the process's group, its terminal's foreground group if
// it has a terminal, or to all that it started.
func (p *process) signal(sig int, all bool) error {
	if sig < 1 || sig > 64 {
		return wire.Errorf(wire.Invalid, "signalling process %q: there is no signal %d", p.id, sig)
	}
	p.s.reaper.hold()
	defer p.s.reaper.release()
	if all && p.cgroup != nil && (!p.reaped || len(p.cgroup.pids()) > 0) {
		p.cgroup.signal(unix.Signal(sig))
		return nil
	}
	if p.reaped {
		return wire.Errorf(wire.Conflict, "signalling process %q: it has ended", p.id)
	}
	group := p.pid
	if p.tty != nil && !all {
		if g, err := foreground(p.tty); err == nil && g > 1 {
			group = g
		}
	}
	err := unix.Kill(-group, unix.Signal(sig))
	if err == unix.ESRCH && group != p.pid { // the foreground job has just ended
		err = unix.Kill(-p.pid, unix.Signal(sig))
	}
	if err != nil {
		return wire.Errorf(wire.Denied, "signalling process %q: %w", p.id, err)
	}
	return nil
}

// kill ends the process and all that it started.
func (p *process) kill() { p.signal(int(unix.SIGKILL), true) }

func (p *process) resize(size wire.Size) error {
	if p.tty == nil {
		return wire.Errorf(wire.Conflict, "resizing process %q: it has no terminal", p.id)
	}
	// A terminal whose program has ended has no size to change.
	withFD(p.tty, func(fd int) error { return setSize(fd, size) })
	return nil
}

func (p *process) info() wire.Process {
	i := wire.Process{
		ID: p.id, PID: p.pid, Argv: p.argv, Dir: p.dir, User: p.user[:min(len(p.user), 256)], Started: p.started,
		TTY: p.tty != nil, Stdin: p.stdin != nil || p.tty != nil,
	}
	p.ring.describe(&i)
	p.mu.Lock()
	i.Exit, i.Ended = p.exit, p.finished
	p.mu.Unlock()
	return i
}

const (
	maxArgvShown = 4 << 10
	listedAtOnce = 16 // processes in one message, which holds them whatever JSON makes of them
)

// shorten keeps what of argv fits in a list of processes.
func shorten(argv []string) []string {
	left := maxArgvShown
	for i, a := range argv {
		if left -= len(a) + 1; left < 0 {
			return append(slices.Clone(argv[:i]), strings.ToValidUTF8(a[:max(0, len(a)+left)], "")+"…")
		}
	}
	return argv
}

func foreground(tty *os.File) (int, error) {
	type result struct {
		group int
		err   error
	}
	r := withFD(tty, func(fd int) result {
		g, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return result{g, err}
	})
	return r.group, r.err
}

// withFD calls f with the file's descriptor, which f.Fd would make blocking.
func withFD[T any](file *os.File, f func(int) T) T {
	var t T
	if raw, err := file.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { t = f(int(fd)) })
	}
	return t
}
