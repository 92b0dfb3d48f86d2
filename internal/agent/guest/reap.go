package guest

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper collects the ends of processes: of ours, and, as PID 1, of every
// orphan in the guest.
//
// Between a process's end and its reaping its number can't be given to
// another. So signals are sent under hold, and reaping excludes hold: a signal
// never hits a stranger.
type reaper struct {
	all bool         // reap every child: only as PID 1 or as a subreaper
	mu  sync.RWMutex // held for reading by those who fork or signal
	reg sync.Mutex
	// waiting is who to tell, by pid.
	waiting map[int]func(unix.WaitStatus, unix.Rusage)
}

func newReaper(all bool) *reaper {
	return &reaper{all: all, waiting: map[int]func(unix.WaitStatus, unix.Rusage){}}
}

// hold keeps the numbers of unreaped processes theirs until release.
func (r *reaper) hold()    { r.mu.RLock() }
func (r *reaper) release() { r.mu.RUnlock() }

// fork starts a process and has ended called once when it was reaped. ended
// runs with reaping stopped and must not block.
func (r *reaper) fork(start func() (int, error), ended func(unix.WaitStatus, unix.Rusage)) (int, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	pid, err := start()
	if err != nil {
		return 0, err
	}
	if !r.all {
		go r.waitOne(pid, ended)
		return pid, nil
	}
	r.reg.Lock()
	r.waiting[pid] = ended
	r.reg.Unlock()
	return pid, nil
}

// waitOne reaps one child and no other: an ordinary program that runs the
// service has children of its own.
func (r *reaper) waitOne(pid int, ended func(unix.WaitStatus, unix.Rusage)) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var status unix.WaitStatus
	var usage unix.Rusage
	for {
		if _, err := unix.Wait4(pid, &status, 0, &usage); err != unix.EINTR {
			break
		}
	}
	ended(status, usage)
}

// run reaps all children until ctx ends.
func (r *reaper) run(ctx context.Context) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	defer signal.Stop(c)
	for {
		for r.some() {
		}
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}

// some reaps a few children: it lets others in between even when a fork bomb
// makes zombies without end. It reports whether there may be more.
func (r *reaper) some() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 64 {
		var status unix.WaitStatus
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, &usage)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return false
		}
		r.reg.Lock()
		ended := r.waiting[pid]
		delete(r.waiting, pid)
		r.reg.Unlock()
		if ended != nil {
			ended(status, usage)
		}
	}
	return true
}

// childless reports whether this process has no children at all. PID 1 has
// none exactly when no other user process is left in the guest.
func childless() bool {
	return unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == unix.ECHILD
}
