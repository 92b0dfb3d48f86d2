package firecracker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// A slot is a number that a machine has to itself on this host as long as it
// runs: it makes the machine's user and names its control group. A slot is a
// symbolic link named after its number that leads to the machine's directory. One
// that leads nowhere is left over: its machine's directory is removed first.
// Slots are not in a state directory: all managers of a host share them, and a
// host that has started anew has none.
var (
	slotsDir = "/run/bandsox/slots"
	groupDir = "/sys/fs/cgroup/bandsox-machines" // bandsox is the agent's, where we are in a sandbox
)

// firstUser is the first of the numbers that systemd's own list of them leaves
// to nobody.
const (
	firstUser = 0x70000000
	maxSlots  = 1 << 16
)

type slot struct {
	number  int
	grouped bool // it has a control group
}

// uid is the number of its user and group.
func (s *slot) uid() int { return firstUser + s.number }

func (s *slot) link() string  { return filepath.Join(slotsDir, strconv.Itoa(s.number)) }
func (s *slot) group() string { return filepath.Join(groupDir, strconv.Itoa(s.number)) }

// takeSlot takes one for the machine whose Firecracker has root, which exists,
// as its directory.
func takeSlot(root string, spec vm.Spec) (*slot, error) {
	if err := os.MkdirAll(slotsDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(slotsDir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // which unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	taken, err := sweepSlots(root)
	if err != nil {
		return nil, err
	}
	for n := range maxSlots {
		if taken[n] {
			continue
		}
		s := &slot{number: n}
		if err := os.Symlink(root, s.link()); err != nil {
			return nil, err
		}
		s.limit(spec)
		return s, nil
	}
	return nil, wire.Errorf(wire.Exhausted, "%d machines run on this host, the most there may be", maxSlots)
}

// sweepSlots gives back what no machine has any more, and what a former one of
// root had. The lock is held.
func sweepSlots(root string) (taken map[int]bool, err error) {
	entries, err := os.ReadDir(slotsDir)
	if err != nil {
		return nil, err
	}
	taken = map[int]bool{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s := &slot{number: n}
		of, err := os.Readlink(s.link())
		if err != nil {
			continue // given back just now
		}
		_, err = os.Lstat(of)
		if of == root || errors.Is(err, fs.ErrNotExist) {
			if s.free() == nil {
				continue
			}
		}
		taken[n] = true
	}
	return taken, nil
}

// free gives the slot back, after its machine has ended. The group goes before
// the number.
func (s *slot) free() error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := os.Remove(s.group())
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			break
		}
		// The kernel takes a moment to notice that nobody is in it any more.
		if !errors.Is(err, unix.EBUSY) || wait > 500*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
	err := os.Remove(s.link())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// slotRoot is the directory of the machine whose user has this number, "" if
// there is none.
func slotRoot(uid int) string {
	if uid < firstUser || uid >= firstUser+maxSlots {
		return ""
	}
	root, err := os.Readlink((&slot{number: uid - firstUser}).link())
	if err != nil {
		return ""
	}
	return root
}

// overheadMiB is what a Firecracker may have beside its guest's memory: its own,
// the kernel's for it, and some of the host's cache for its drives.
const overheadMiB = 128

// limit makes the slot's control group. What of it this host can't do isn't
// done: doctor says so.
func (s *slot) limit(spec vm.Spec) {
	parent := filepath.Dir(groupDir)
	if _, err := os.Stat(filepath.Join(parent, "cgroup.controllers")); err != nil {
		return // no cgroup v2 there
	}
	if err := os.MkdirAll(groupDir, 0o755); err != nil {
		return
	}
	for _, dir := range []string{parent, groupDir} {
		for _, controller := range []string{"cpu", "memory", "pids", "io"} {
			_ = writeFile(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller)
		}
	}
	if err := os.Mkdir(s.group(), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return
	}
	s.grouped = true
	for name, value := range map[string]string{
		"memory.max":       strconv.Itoa((spec.MemMiB + spec.MemMiB/64 + overheadMiB) << 20),
		"memory.oom.group": "1",
		"pids.max":         strconv.Itoa(spec.VCPU + 16), // its own three, KVM's helpers, one a CPU
		// One more than the guest's, for its devices.
		"cpu.max":    fmt.Sprintf("%d 100000", (spec.VCPU+1)*100000),
		"cpu.weight": strconv.Itoa(min(100*spec.VCPU, 10000)),
	} {
		_ = writeFile(filepath.Join(s.group(), name), value)
	}
}

// hasLimits says whether this host has what limit needs.
func hasLimits() bool {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(groupDir), "cgroup.controllers"))
	have := strings.Fields(string(b))
	return err == nil && slices.Contains(have, "cpu") && slices.Contains(have, "memory") && slices.Contains(have, "pids")
}

// openGroup opens the control group, if there is one, to start a process in it.
func (s *slot) openGroup() (*os.File, error) {
	if !s.grouped {
		return nil, nil
	}
	return os.Open(s.group())
}

func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// findSlot is the slot of the machine whose Firecracker has root as its
// directory, nil if it has none: another user started it.
func findSlot(root string) (*slot, error) {
	here, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(slotsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s := &slot{number: n}
		if there, err := os.Stat(s.link()); err == nil && os.SameFile(here, there) {
			return s, nil
		}
	}
	return nil, nil
}
