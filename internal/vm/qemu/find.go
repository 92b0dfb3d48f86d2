package qemu

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
)

// Find looks through the host's processes for our machines under dir.
func (d *driver) Find(ctx context.Context, dir string) ([]vm.Handle, error) {
	return monitor.Find(ctx, dir, handleOf)
}

// handleOf makes a handle of what /proc tells of a process, if it is a machine.
func handleOf(pid int) (vm.Handle, bool) {
	id, accel, ok := machineOf(monitor.Args(pid))
	if !ok {
		return vm.Handle{}, false
	}
	start, err := monitor.StartTime(pid)
	if err != nil {
		return vm.Handle{}, false
	}
	dir, err := os.Readlink(monitor.ProcPath(pid, "cwd"))
	if err != nil {
		return vm.Handle{}, false
	}
	// Read again: between the reads it may have become another process.
	if again, err := monitor.StartTime(pid); err != nil || again != start {
		return vm.Handle{}, false
	}
	return vm.Handle{
		Driver: "qemu", Accel: accel, ID: id, PID: pid, StartTime: start,
		Dir: strings.TrimSuffix(dir, " (deleted)"),
	}, true
}

// machineOf reads the machine's id and accelerator off its command line.
func machineOf(args []string) (id, accel string, ok bool) {
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
