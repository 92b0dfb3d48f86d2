package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where every process gets a cgroup of its own, so that whatever it
// starts, in whatever session, can be killed and blamed. A nil *cgroups means
// that there is no cgroup2: process groups must do.
type cgroups struct {
	dir string
}

// openCgroups makes dir, a cgroup2 directory, ready. What controllers there
// are not is done without.
func openCgroups(dir string) (*cgroups, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(dir), &fs); err != nil {
		return nil, err
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, unix.ENOTSUP
	}
	enable(filepath.Dir(dir))
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return nil, err
	}
	enable(dir)
	return &cgroups{dir: dir}, nil
}

func enable(dir string) {
	for _, c := range []string{"+memory", "+pids", "+cpu"} { // one by one: one that's missing fails the lot
		writeString(filepath.Join(dir, "cgroup.subtree_control"), c)
	}
}

// limit keeps a reserve for the agent and the kernel: what the processes eat,
// they take from each other.
func (c *cgroups) limit(memory int64, pids int) {
	if memory > 0 {
		writeString(filepath.Join(c.dir, "memory.max"), strconv.FormatInt(memory, 10))
	}
	if pids > 0 {
		writeString(filepath.Join(c.dir, "pids.max"), strconv.Itoa(pids))
	}
}

// reserve is what of the memory that a guest has left after its boot its
// processes may not have: room for the agent to grow and for the kernel's own.
func reserve(total int64) int64 {
	return min(max(total/24, 12<<20), 64<<20)
}

// cgroup is one process's.
type cgroup struct {
	dir string
	fd  int // for SysProcAttr.CgroupFD; -1 after the start

	starved atomic.Bool // we killed in it for want of memory
}

func (c *cgroups) create(id string) (*cgroup, error) {
	dir := filepath.Join(c.dir, "p-"+id) // the prefix keeps ids and the kernel's file names apart
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &cgroup{dir: dir, fd: fd}, nil
}

func (g *cgroup) attr(sys *syscall.SysProcAttr) {
	sys.UseCgroupFD, sys.CgroupFD = true, g.fd
}

func (g *cgroup) started() {
	unix.Close(g.fd)
	g.fd = -1
}

// signal sends sig to every process in the cgroup and below it.
func (g *cgroup) signal(sig unix.Signal) {
	if sig == unix.SIGKILL && writeString(filepath.Join(g.dir, "cgroup.kill"), "1") == nil {
		return
	}
	for _, pid := range g.pids() {
		unix.Kill(pid, sig)
	}
}

func (g *cgroup) pids() []int {
	var pids []int
	filepath.WalkDir(g.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for s := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(s); err == nil && pid > 1 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// oomKilled reports whether something in this cgroup was killed for want of
// memory.
func (g *cgroup) oomKilled() bool {
	b, _ := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			kills, _ := strconv.Atoi(n)
			return kills > 0 || g.starved.Load()
		}
	}
	return g.starved.Load()
}

// remove deletes the cgroup, and reports whether it's gone: it stays while
// there is a process in it.
func (g *cgroup) remove() bool {
	if g.fd >= 0 {
		g.started()
	}
	for range 2 {
		if err := unix.Rmdir(g.dir); err == nil || err == unix.ENOENT {
			return true
		}
		// What is ours to remove may hold cgroups that the process made.
		filepath.WalkDir(g.dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && path != g.dir {
				unix.Rmdir(path)
			}
			return nil
		})
	}
	return false
}

// sweep removes the cgroup when the processes that were just killed have left it.
func (g *cgroup) sweep(patience time.Duration) bool {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if g.remove() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// writeString writes to a file of the kernel's: no create, no truncate.
func writeString(path, s string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(s))
	return err
}
