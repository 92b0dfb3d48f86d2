package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel kills for want of memory when nothing can be reclaimed. Before it
// comes to that, programs that have eaten everything lose the pages of their
// own code, which are read from the disk again and lost again: for minutes
// nothing moves, and nobody is told why. This ends such a state as the kernel
// would have.

const (
	// stalled is when the kernel wakes us: within two seconds, everything that
	// runs waited for memory for half of one.
	stalled = "full 500000 2000000\x00"
	// strikes is how often in a row that must happen, with no cache to speak of.
	strikes = 2
	apart   = 5 * time.Second
)

// watchMemory never returns, unless the kernel has no pressure figures. It
// costs nothing while nothing is stalled.
func (s *service) watchMemory() {
	fd, err := unix.Open(filepath.Join(s.cgroups.dir, "memory.pressure"), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(stalled))
	}
	if err != nil {
		s.log("not watching memory: %v", err)
		return
	}
	var last time.Time
	count := 0
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil || p[0].Revents&unix.POLLERR != 0 {
			return // the guest removed the cgroup
		}
		if time.Since(last) > apart {
			count = 0
		}
		last = time.Now()
		if !s.cgroups.starved() {
			count = 0
		} else if count++; count >= strikes {
			s.killBiggest()
			count = 0
		}
	}
}

// starved reports whether what is left of the memory that could be reclaimed,
// the cache of files, is next to nothing.
func (c *cgroups) starved() bool {
	limit, err := strconv.ParseInt(field(readKernel(filepath.Join(c.dir, "memory.max")), 0), 10, 64)
	if err != nil {
		return false
	}
	cache := int64(0)
	for l := range strings.Lines(string(readKernel(filepath.Join(c.dir, "memory.stat")))) {
		key, value, _ := strings.Cut(strings.TrimSpace(l), " ")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch key {
		case "file":
			cache += n
		case "shmem":
			cache -= n
		}
	}
	return cache < limit/10
}

// killBiggest kills the one process that has the most memory.
func (s *service) killBiggest() {
	s.mu.Lock()
	groups := append([]*cgroup(nil), s.leftover...)
	for _, p := range s.procs {
		if p.cgroup != nil {
			groups = append(groups, p.cgroup)
		}
	}
	s.mu.Unlock()
	var most, victim int
	var group *cgroup
	for _, g := range groups {
		for _, pid := range g.pids() {
			if pages, _ := strconv.Atoi(field(readKernel("/proc/"+strconv.Itoa(pid)+"/statm"), 1)); pages > most {
				most, victim, group = pages, pid, g
			}
		}
	}
	if group == nil {
		return
	}
	s.log("process %d has %d MiB of a memory in which nothing moves any more: killed", victim, most*os.Getpagesize()>>20)
	group.starved.Store(true)
	unix.Kill(victim, unix.SIGKILL)
}
