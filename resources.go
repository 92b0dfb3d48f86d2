package bandsox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// DefaultMemoryOvercommit is generous, for a guest takes from the host only what
// it has touched: most of the memory that sandboxes are given is never used.
const DefaultMemoryOvercommit = 4

// diskDrive is the place of a sandbox's disk among its machine's drives.
const diskDrive = 1

// admit refuses a machine that this host can't carry, before anything is done
// for it. What the host could still be asked for is the memory that running
// sandboxes were given and have not taken yet; that, and the new one's, may be
// so many times what the host has to give now.
func (m *Manager) admit(ctx context.Context, id string, vcpu, memMiB int) error {
	if cpus := runtime.NumCPU(); vcpu > cpus {
		return wire.Errorf(CodeInvalid, "vcpu %d: this host has %d", vcpu, cpus)
	}
	total, available := hostMemory()
	if total == 0 {
		return nil // nobody knows
	}
	want := int64(memMiB) << 20
	if want > total {
		return wire.Errorf(CodeExhausted, "%d MiB of memory: this host has %d", memMiB, total>>20)
	}
	var promised int64
	all, err := m.infos(ctx)
	if err != nil {
		return err
	}
	for _, info := range all {
		if info.ID == id || info.Status != StateCreating && info.Status != StateRunning && info.Status != StatePaused {
			continue
		}
		rest := int64(info.MemMiB) << 20
		if info.Machine != nil {
			if u, ok := readProcess(*info.Machine); ok {
				rest -= u.rss
			}
		}
		promised += max(0, rest)
	}
	factor := m.cfg.MemoryOvercommit
	if factor <= 0 {
		factor = DefaultMemoryOvercommit
	}
	if float64(promised+want) > factor*float64(available) {
		return wire.Errorf(CodeExhausted, "%d MiB of memory: the host has %d MiB to give, and running sandboxes may still take %d of them",
			memMiB, available>>20, promised>>20).
			WithHint("give it less memory, or stop another: bandsox ps")
	}
	return nil
}

// hostMemory is the host's memory in bytes, all of it and what it has to give:
// that of the control group that this process is in, if that has less.
func hostMemory() (total, available int64) {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	b, _ = os.ReadFile("/proc/self/cgroup")
	_, own, ok := strings.Cut(string(b), "0::/")
	if !ok {
		return total, available
	}
	own, _, _ = strings.Cut(own, "\n")
	for dir := filepath.Join("/sys/fs/cgroup", filepath.Clean("/"+own)); dir != "/sys/fs"; dir = filepath.Dir(dir) {
		limit, err := number(filepath.Join(dir, "memory.max"))
		if err != nil {
			continue // there is none: "max", or the root
		}
		taken, _ := number(filepath.Join(dir, "memory.current"))
		total, available = min(total, limit), min(available, max(0, limit-taken))
	}
	return total, available
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// checkGrow says whether the disk may have this size now.
func checkGrow(info Info, sizeMiB int) error {
	switch {
	case sizeMiB < info.DiskSizeMiB:
		return wire.Errorf(CodeInvalid, "disk size %d MiB: it has %d, and a disk can't shrink", sizeMiB, info.DiskSizeMiB)
	case sizeMiB > disk.MaxSizeMiB:
		return wire.Errorf(CodeInvalid, "disk size %d MiB: at most %d", sizeMiB, disk.MaxSizeMiB)
	case info.Status == StatePaused:
		return wire.Errorf(CodeConflict, "can't grow the disk of sandbox %s: it is paused", info.ID).WithHint("bandsox resume %s", info.ID)
	}
	return nil
}

// growDisk makes the disk as large as its record says: the file at once, and
// what the guest sees of it and keeps on it if there is one. Else the next
// boot does. The record comes first, so that whatever is cut short is finished
// by doing it again; a file that can't have the size leaves it as it was before.
// For those that hold sb.op.
func (sb *Sandbox) growDisk(ctx context.Context, before int) error {
	info := sb.known()
	if err := disk.Grow(sb.m.store.Disk(sb.id), info.DiskSizeMiB); err != nil {
		return errors.Join(err, sb.wish(ctx, func(i *Info) { i.DiskSizeMiB = before }))
	}
	if info.Status != StateRunning {
		return nil
	}
	machine, err := sb.inHand(ctx)
	if err != nil {
		return err
	}
	return sb.tellGrown(ctx, machine, info.DiskSizeMiB)
}

// tellGrown lets the guest know how large its disk has become.
func (sb *Sandbox) tellGrown(ctx context.Context, machine vm.Machine, sizeMiB int) error {
	size := int64(sizeMiB) << 20
	if err := machine.ResizeDrive(ctx, diskDrive, size); err != nil {
		return err
	}
	client, err := sb.connect(ctx)
	if err != nil {
		return err
	}
	return client.Grow(ctx, size)
}
