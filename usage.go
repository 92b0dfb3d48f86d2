package bandsox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/disk"
)

// DiskUsage is what the state directory takes of the host's disk, and for what.
type DiskUsage struct {
	Images    Space `json:"images"`    // their bases
	Sandboxes Space `json:"sandboxes"` // their disks, with what their machines log
	Snapshots Space `json:"snapshots"` // with those of forks; active: machines share their memory
	Templates Space `json:"templates"`
	Kernels   Space `json:"kernels"` // and the initial file systems that go with them
	Other     Space `json:"other"`   // records, logs, what is being made
	Total     Space `json:"total"`
	FreeBytes int64 `json:"free_bytes"` // that can still be written there

	Each []SandboxUsage `json:"each"` // sandbox, the newest first
}

// Space is what some files take. Files have holes: they are larger than what
// they take.
type Space struct {
	Count            int   `json:"count"`
	Active           int   `json:"active"`            // in use by a sandbox, or a sandbox with a machine
	Bytes            int64 `json:"bytes"`             // as programs see them
	AllocatedBytes   int64 `json:"allocated_bytes"`   // of the disk
	ReclaimableBytes int64 `json:"reclaimable_bytes"` // of these, what removing all that isn't active would free
}

// SandboxUsage is what one sandbox takes.
type SandboxUsage struct {
	ID             string `json:"id"`
	Name           string `json:"name,omitempty"`
	Status         State  `json:"status"`
	Bytes          int64  `json:"bytes"`
	AllocatedBytes int64  `json:"allocated_bytes"`
}

// Usage measures the state directory. What comes and goes meanwhile may be
// counted or not.
func (m *Manager) Usage(ctx context.Context) (u DiskUsage, err error) {
	u, err = m.usage(ctx)
	return u, fail("usage", "", err)
}

func (m *Manager) usage(ctx context.Context) (u DiskUsage, err error) {
	u.Each = []SandboxUsage{}
	images, err := m.Images(ctx)
	if err != nil {
		return u, err
	}
	kept, err := m.snapshotUsage(ctx, &u)
	if err != nil {
		return u, err
	}
	for _, img := range images {
		u.Images.add(img.BaseBytes, img.AllocatedBytes, len(img.UsedBy) > 0 || kept[img.Digest])
	}
	list, err := m.List(ctx, ListOptions{})
	if err != nil {
		return u, err
	}
	for _, info := range list {
		bytes, allocated, err := treeUsage(ctx, m.store.Sandbox(info.ID))
		if err != nil {
			return u, err
		}
		u.Sandboxes.add(bytes, allocated, info.Status == StateRunning || info.Status == StatePaused || info.Status == StateCreating)
		u.Each = append(u.Each, SandboxUsage{ID: info.ID, Name: info.Name, Status: info.Status, Bytes: bytes, AllocatedBytes: allocated})
	}
	for _, dir := range []string{m.store.Kernels(), filepath.Dir(m.store.Initramfs("any"))} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return u, err
		}
		for _, e := range entries {
			if e.Type().IsRegular() || e.IsDir() {
				bytes, allocated, err := treeUsage(ctx, filepath.Join(dir, e.Name()))
				if err != nil {
					return u, err
				}
				u.Kernels.add(bytes, allocated, true)
			}
		}
	}
	if u.Total.Bytes, u.Total.AllocatedBytes, err = treeUsage(ctx, m.store.Dir()); err != nil {
		return u, err
	}
	u.Other = Space{Bytes: u.Total.Bytes, AllocatedBytes: u.Total.AllocatedBytes}
	for _, s := range []Space{u.Images, u.Sandboxes, u.Snapshots, u.Templates, u.Kernels} {
		u.Total.Count += s.Count
		u.Total.Active += s.Active
		u.Total.ReclaimableBytes += s.ReclaimableBytes
		u.Other.Bytes = max(0, u.Other.Bytes-s.Bytes)
		u.Other.AllocatedBytes = max(0, u.Other.AllocatedBytes-s.AllocatedBytes)
	}
	u.FreeBytes, err = disk.Free(m.store.Dir())
	return u, err
}

// snapshotUsage adds snapshots and templates, and returns the images that
// snapshots need.
func (m *Manager) snapshotUsage(ctx context.Context, u *DiskUsage) (kept map[string]bool, err error) {
	list, err := m.snapshots(true)
	if err != nil {
		return nil, err
	}
	sharers, err := m.sharers(ctx)
	if err != nil {
		return nil, err
	}
	kept = map[string]bool{}
	for _, s := range list {
		bytes, allocated, err := treeUsage(ctx, s.dir)
		if err != nil {
			return nil, err
		}
		to := &u.Snapshots
		if s.info.Purpose == PurposeTemplate {
			to = &u.Templates
		} else {
			kept[s.info.Digest] = true
		}
		to.add(bytes, allocated, len(sharers[s.dir]) > 0)
	}
	return kept, nil
}

func (s *Space) add(bytes, allocated int64, active bool) {
	s.Count++
	s.Bytes += bytes
	s.AllocatedBytes += allocated
	if active {
		s.Active++
	} else {
		s.ReclaimableBytes += allocated
	}
}

// treeUsage adds up the regular files below a path, which may be one; those
// that have two names count once. What goes meanwhile is not there.
func treeUsage(ctx context.Context, root string) (bytes, allocated int64, err error) {
	type file struct{ dev, ino uint64 }
	seen := map[file]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && d.Type().IsRegular() {
			var st unix.Stat_t
			if err = unix.Lstat(path, &st); err == nil && !seen[file{st.Dev, st.Ino}] {
				seen[file{st.Dev, st.Ino}] = true
				bytes += st.Size
				allocated += st.Blocks * 512
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return bytes, allocated, err
}
