// Package monitor is what drivers have in common that run a virtual machine
// monitor as a process of this host: that process, the sockets in its
// directory, what it and its guest print, and the kernel that it is given.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// GuestWords are the words of the kernel's command line that every guest of
// ours gets, whatever its devices.
var GuestWords = []string{
	"quiet", "panic=-1",
	"mitigations=off", // one tenant per kernel
	"init_on_alloc=0", // the same: no page is cleared that is about to be overwritten
	"lsm=landlock,yama,bpf", "hardened_usercopy=off", "randomize_kstack_offset=off",
	"cryptomgr.notests",   // a tenth of a second
	"random.trust_cpu=on", // the host adds entropy of its own
}

// Environ is what a monitor gets to see of our environment: nothing secret.
func Environ() []string {
	env := []string{"LC_ALL=C"}
	for _, k := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// Pids are the processes of this host.
func Pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Args is a process's command line, nil if it can't be read.
func Args(pid int) []string {
	line, err := os.ReadFile(ProcPath(pid, "cmdline"))
	if err != nil || len(line) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
}

// StartTime is field 22 of /proc/PID/stat: with its number, who a process is.
func StartTime(pid int) (start uint64, err error) {
	fields, err := stat(ProcPath(pid, "stat"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// Stopped says whether all of a process stands still after a SIGSTOP.
func Stopped(pid int) bool {
	tasks, err := os.ReadDir(ProcPath(pid, "task"))
	if err != nil || len(tasks) == 0 {
		return false
	}
	for _, task := range tasks {
		fields, err := stat(ProcPath(pid, filepath.Join("task", task.Name(), "stat")))
		if err != nil || fields[0] != "T" {
			return false
		}
	}
	return true
}

// Swapped says whether the host has moved memory of a process to its disk.
func Swapped(pid int) bool {
	b, err := os.ReadFile(ProcPath(pid, "status"))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmSwap:" {
			return f[1] != "0"
		}
	}
	return false // a kernel without swap
}

// stat is the state of a process or thread, and what follows it in its stat.
func stat(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// The second field is a name in parentheses, and may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("reading %s: it has %d fields", path, len(fields))
	}
	return fields, nil
}

// ProcPath is a file in a process's directory of /proc.
func ProcPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// RealPath is dir as the kernel shows it to be a process's working directory,
// also when it is no longer there.
func RealPath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	return dir, nil
}

// Under says whether path is dir or lies in it.
func Under(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// CodeOf is the class of a system call's error.
func CodeOf(err error) wire.Code {
	switch {
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EMFILE),
		errors.Is(err, unix.ENFILE), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EDQUOT):
		return wire.Exhausted
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return wire.Denied
	case errors.Is(err, unix.ENOENT):
		return wire.NotFound
	}
	return wire.Internal
}

// CodeOfContext is the class of a failure that ctx may have caused.
func CodeOfContext(ctx context.Context) wire.Code {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return wire.Timeout
	}
	return wire.Unavailable
}

// HintOf is what an error says to do about it.
func HintOf(err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
