package bandsox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// RestoreOptions say what a sandbox that goes on from a snapshot has of its own.
// The zero value works.
type RestoreOptions struct {
	Name        string
	Env         map[string]string // merged into the snapshot's, of programs that are started from now on
	Metadata    map[string]any
	Labels      map[string]string
	DiskSizeMiB int // more than the snapshot's grows the disk
	AutoRemove  bool
	Owner       string

	parent string // of a fork
}

// Restore makes a sandbox that goes on where the snapshot's was: its programs
// run, its files are there. It shares the memory that it does not write to.
func (s *Snapshot) Restore(ctx context.Context, o RestoreOptions) (*Sandbox, error) {
	s.m.snapshotting.RLock() // it is not deleted meanwhile
	defer s.m.snapshotting.RUnlock()
	now, err := s.m.openSnapshot(s.dir) // it may be gone
	if err != nil {
		return nil, fail("restore", s.id, err)
	}
	sb, err := s.m.restore(ctx, now, o)
	return sb, fail("restore", s.id, err)
}

func (m *Manager) restore(ctx context.Context, s *Snapshot, o RestoreOptions) (*Sandbox, error) {
	info := s.info
	co := CreateOptions{
		Image: info.Image, Name: o.Name, VCPU: info.VCPU, MemMiB: info.MemMiB, DiskSizeMiB: max(info.DiskSizeMiB, o.DiskSizeMiB),
		Env: withMore(info.Env, o.Env), Metadata: o.Metadata, Labels: o.Labels, AutoRemove: o.AutoRemove, Owner: o.Owner,
	}
	co.defaults()
	return m.make(ctx, co, func(ctx context.Context, sb *Sandbox, lock *store.FileLock, times *phases, undo *stack) error {
		if err := sb.save(ctx, func(i *Info) {
			i.Digest, i.Config, i.Kernel, i.Parent = info.Digest, info.Config, info.Kernel, o.parent
			if info.Purpose == "" {
				i.RestoredFrom, i.Snapshot = info.ID, info.ID
			}
		}); err != nil {
			return err
		}
		return sb.restore(ctx, s, lock, times, undo)
	})
}

// restore gives the sandbox a copy of the snapshot's disk and a machine that goes
// on where the snapshot's was.
func (sb *Sandbox) restore(ctx context.Context, s *Snapshot, lock *store.FileLock, times *phases, undo *stack) error {
	m := sb.m
	if _, err := os.Stat(m.store.BaseInfo(s.info.Digest)); err != nil {
		return wire.Errorf(CodeNotFound, "the base of its image %s is gone", s.info.Image).WithHint("bandsox image pull %s", s.info.Image)
	}
	from := filepath.Join(s.dir, store.SnapshotDisk)
	if bytes, _, err := disk.Usage(from); err != nil || bytes != int64(s.info.DiskSizeMiB)<<20 {
		return wire.Errorf(CodeConflict, "the disk of snapshot %s is damaged: it has %d bytes, of %d MiB", s.id, bytes, s.info.DiskSizeMiB)
	}
	if err := disk.Copy(ctx, m.store.Disk(sb.id), from); err != nil {
		return err
	}
	size := sb.known().DiskSizeMiB
	if size > s.info.DiskSizeMiB {
		if err := disk.Grow(m.store.Disk(sb.id), size); err != nil {
			return err
		}
	}
	times.done("disk")
	machine, err := m.driver.Restore(ctx, sb.spec(s.info.Digest), s.dir, s.info.Machine)
	if err != nil {
		return err
	}
	who := sb.identity()
	who.Restored = true
	template := ""
	if s.info.Purpose == PurposeTemplate {
		template = filepath.Base(s.dir)
	}
	if err := sb.ready(ctx, machine, lock, who, times, undo, func(i *Info) { i.Kernel, i.Template = s.info.Kernel, template }); err != nil {
		return err
	}
	if size <= s.info.DiskSizeMiB {
		return nil
	}
	err = sb.tellGrown(ctx, machine, size)
	times.done("grow")
	return err
}

// ForkOptions say what the children of a fork have of their own. The zero value
// works.
type ForkOptions struct {
	Name       string         // of one child; of several it is followed by a number
	Metadata   map[string]any // merged into the parent's
	Labels     map[string]string
	AutoRemove bool
	Owner      string
}

// maxFork is how many children can be asked for at once.
const maxFork = 256

// Fork makes n sandboxes that go on where this one is, its programs running in
// each. It stands still only as long as for a snapshot. All are made, or on error
// none.
func (sb *Sandbox) Fork(ctx context.Context, n int, o ForkOptions) ([]*Sandbox, error) {
	list, err := sb.fork(ctx, n, o)
	return list, fail("fork", sb.id, err)
}

func (sb *Sandbox) fork(ctx context.Context, n int, o ForkOptions) (_ []*Sandbox, err error) {
	if n < 1 || n > maxFork {
		return nil, wire.Errorf(CodeInvalid, "fork count %d: must be from 1 to %d", n, maxFork)
	}
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	m := sb.m
	m.snapshotting.RLock()
	defer m.snapshotting.RUnlock()
	var s *Snapshot
	if err := sb.performing(ctx, opFork, func() error {
		s, err = sb.snapshot(ctx, SnapshotOptions{purpose: PurposeFork})
		return err
	}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	parent := sb.known()
	list, errs := make([]*Sandbox, n), make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, forking)
	for i := range n {
		ro := RestoreOptions{Name: o.Name, Metadata: merge(parent.Metadata, o.Metadata), Labels: withMore(parent.Labels, o.Labels),
			AutoRemove: o.AutoRemove, Owner: o.Owner, parent: sb.id}
		if o.Name != "" && n > 1 {
			ro.Name = fmt.Sprintf("%s-%d", o.Name, i+1)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			list[i], errs[i] = m.restore(ctx, s, ro)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, child := range list {
			if child != nil {
				err = errors.Join(err, child.Delete(context.WithoutCancel(ctx)))
			}
		}
		return nil, err
	}
	return list, nil
}

// forking is how many children are restored at a time.
const forking = 8

// withMore is a copy of have with more put over it, nil if there is nothing.
func withMore(have, more map[string]string) map[string]string {
	if len(have)+len(more) == 0 {
		return nil
	}
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	return all
}
