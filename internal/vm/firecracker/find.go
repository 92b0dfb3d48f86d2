package firecracker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
)

// Find looks through the host's processes for our machines under dir.
func (d *driver) Find(ctx context.Context, dir string) ([]vm.Handle, error) {
	return monitor.Find(ctx, dir, handleOf)
}

// handleOf makes a handle of what /proc tells of a process, if it is a machine.
func handleOf(pid int) (vm.Handle, bool) {
	args := monitor.Args(pid)
	id, ok := machineOf(args)
	if !ok {
		return vm.Handle{}, false
	}
	start, err := monitor.StartTime(pid)
	if err != nil {
		return vm.Handle{}, false
	}
	base := baseOf(pid, args)
	// Read again: between the reads it may have become another process.
	if again, err := monitor.StartTime(pid); err != nil || again != start || base == "" {
		return vm.Handle{}, false
	}
	return vm.Handle{Driver: "firecracker", Accel: "kvm", ID: id, PID: pid, StartTime: start, Dir: filepath.Dir(base)}, true
}

// machineOf reads the machine's id off a command line: of Firecracker, or of the
// jailer that is about to become one.
func machineOf(args []string) (id string, ok bool) {
	after := func(flag string) string {
		if i := slices.Index(args, flag); i > 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	id = after("--id")
	return id, validID.MatchString(id) && after("--api-sock") == apiSocket && after("--log-path") == logFile
}

// baseOf is the directory of the jail that a process is in, "" if it is in none
// of ours.
func baseOf(pid int, args []string) string {
	if i := slices.Index(args, "--chroot-base-dir"); i > 0 && i+1 < len(args) {
		return args[i+1]
	}
	cwd, err := os.Stat(monitor.ProcPath(pid, "cwd"))
	if err != nil {
		return ""
	}
	root := ""
	if st, ok := cwd.Sys().(*syscall.Stat_t); ok {
		root = slotRoot(int(st.Uid)) // in a jail its own path is of no use
	}
	if root == "" {
		if root, err = os.Readlink(monitor.ProcPath(pid, "cwd")); err != nil {
			return ""
		}
	}
	if there, err := os.Stat(root); err != nil || !os.SameFile(there, cwd) {
		return ""
	}
	for dir := root; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) == jailDir {
			return dir
		}
	}
	return ""
}

// findJail is the jail of a machine that runs.
func findJail(h vm.Handle) (*jail, error) {
	j := &jail{base: filepath.Join(h.Dir, jailDir), id: h.ID}
	j.root = filepath.Join(j.base, "root")
	if jailed, _ := filepath.Glob(filepath.Join(j.base, "*", h.ID, "root")); len(jailed) == 1 {
		j.root, j.user = jailed[0], true
	}
	here, err := os.Stat(j.root)
	if err != nil {
		return nil, err
	}
	if cwd, err := os.Stat(monitor.ProcPath(h.PID, "cwd")); err != nil || !os.SameFile(here, cwd) {
		return nil, errors.New("its Firecracker is in another directory")
	}
	if os.Geteuid() == 0 {
		j.slot, err = findSlot(j.root)
	}
	return j, err
}
