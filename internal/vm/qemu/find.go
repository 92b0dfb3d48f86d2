package qemu

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/vm"
)

// Find looks through the host's processes for our machines under dir.
func (d *driver) Find(ctx context.Context, dir string) ([]vm.Handle, error) {
	dir, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []vm.Handle
	for _, p := range procs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if h, ok := handleOf(pid); ok && under(h.Dir, dir) {
			found = append(found, h)
		}
	}
	return found, nil
}

// realPath is dir as the kernel shows it to be a process's working directory,
// also when it is no longer there.
func realPath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	return dir, nil
}

func under(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// handleOf makes a handle of what /proc tells of a process, if it is a machine.
func handleOf(pid int) (vm.Handle, bool) {
	id, accel, ok := machineOf(pid)
	if !ok {
		return vm.Handle{}, false
	}
	start, err := startTime(pid)
	if err != nil {
		return vm.Handle{}, false
	}
	dir, err := os.Readlink(procPath(pid, "cwd"))
	if err != nil {
		return vm.Handle{}, false
	}
	// Read again: between the reads it may have become another process.
	if again, err := startTime(pid); err != nil || again != start {
		return vm.Handle{}, false
	}
	return vm.Handle{
		Driver: "qemu", Accel: accel, ID: id, PID: pid, StartTime: start,
		Dir: strings.TrimSuffix(dir, " (deleted)"),
	}, true
}

// machineOf reads the machine's id and accelerator off its command line.
func machineOf(pid int) (id, accel string, ok bool) {
	line, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return "", "", false
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	after := func(flag string) string {
		if i := slices.Index(args, flag); i > 0 && i+1 < len(args) {
			value, _, _ := strings.Cut(args[i+1], ",")
			return value
		}
		return ""
	}
	name := strings.TrimPrefix(after("-name"), "guest=")
	id, ok = strings.CutPrefix(name, machineName(""))
	ok = ok && validID.MatchString(id) && slices.Contains(args, agentMark)
	return id, after("-accel"), ok
}

// startTime is field 22 of /proc/PID/stat: with its number, who a process is.
func startTime(pid int) (start uint64, err error) {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0, fmt.Errorf("reading process %d: %w", pid, err)
	}
	// The second field is a name in parentheses, and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("reading process %d: its stat has %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}
