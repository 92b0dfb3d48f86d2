package bandsox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// Snapshot is a sandbox at one instant: its memory, its devices and its disk. It
// never changes; any number of sandboxes go on from it.
type Snapshot struct {
	m    *Manager
	id   string
	dir  string
	info SnapshotInfo
}

// SnapshotInfo is all there is to know of a snapshot: it is the record on disk
// and the object of the API.
type SnapshotInfo struct {
	ID          string            `json:"id"`
	Name        string            `json:"snapshot_name"`
	Source      string            `json:"source_vm_id"`     // the sandbox that it was taken of
	Parent      string            `json:"parent,omitempty"` // the snapshot that the sandbox was at before
	Purpose     SnapshotPurpose   `json:"purpose,omitempty"`
	Image       string            `json:"image"`
	Digest      string            `json:"digest"`
	VCPU        int               `json:"vcpu"`
	MemMiB      int               `json:"mem_mib"`
	DiskSizeMiB int               `json:"disk_size_mib"`
	Env         map[string]string `json:"env_vars,omitempty"`
	Metadata    map[string]any    `json:"metadata"`
	CreatedAt   Epoch             `json:"created_at"`
	Config      image.Config      `json:"config"`
	Kernel      string            `json:"kernel"`
	Agent       string            `json:"agent,omitempty"`
	Machine     vm.Saved          `json:"machine"`
	Pause       time.Duration     `json:"pause_ns"` // how long the sandbox stood still for it
	Bytes       int64             `json:"bytes"`    // on the host's disk
	Path        string            `json:"path"`
	Status      string            `json:"status"` // "ready"
}

// SnapshotPurpose says what BandSox made a snapshot for by itself. It is empty
// for one that somebody asked for.
type SnapshotPurpose string

// The purposes.
const (
	PurposeFork     SnapshotPurpose = "fork"     // goes with the last machine that was made from it
	PurposeTemplate SnapshotPurpose = "template" // of a sandbox that had just booted
)

// SnapshotOptions say how to take a snapshot. The zero value works.
type SnapshotOptions struct {
	Name     string         // unique among snapshots; default: the sandbox's name or id, and a number
	Metadata map[string]any // the caller's own

	purpose SnapshotPurpose
}

// Snapshot takes a snapshot of a running or paused sandbox. A running one stands
// still for as long as what it has written to its memory takes to be copied.
func (sb *Sandbox) Snapshot(ctx context.Context, o SnapshotOptions) (s *Snapshot, err error) {
	err = sb.perform(ctx, opSnapshot, func() error {
		s, err = sb.snapshot(ctx, o)
		return err
	})
	return s, err
}

func (sb *Sandbox) snapshot(ctx context.Context, o SnapshotOptions) (_ *Snapshot, err error) {
	m := sb.m
	if err := checkMetadata(o.Metadata); err != nil {
		return nil, err
	}
	info := sb.known()
	s := &Snapshot{m: m, info: SnapshotInfo{
		ID: store.NewID(), Source: sb.id, Parent: info.Snapshot, Purpose: o.purpose,
		Image: info.Image, Digest: info.Digest, VCPU: info.VCPU, MemMiB: info.MemMiB, DiskSizeMiB: info.DiskSizeMiB,
		Env: info.Env, Metadata: o.Metadata, Config: info.Config, Kernel: info.Kernel,
	}}
	s.id = s.info.ID
	if o.Name != "" { // sooner than after all the work
		if err := m.freeSnapshotName(o.Name, s.id); err != nil {
			return nil, err
		}
	}
	if s.dir, err = os.MkdirTemp(m.store.Scratch(), "snapshot-*"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	if err := sb.saveInto(ctx, s); err != nil {
		return nil, err
	}
	step("snapshot")
	if err := s.settle(); err != nil {
		return nil, err
	}
	if o.purpose != "" {
		err = s.publish(m.store.Snapshot(s.id))
	} else {
		err = m.publishNamed(s, o.Name, info)
	}
	if err != nil {
		return nil, err
	}
	step("snapshot-published")
	if o.purpose == "" {
		sb.note(EventSnapshot, map[string]string{"snapshot": s.id, "snapshot_name": s.info.Name})
		err = sb.save(ctx, func(i *Info) { i.Snapshot = s.id })
	}
	return s, err
}

// saveInto writes the machine and its disk into the snapshot's directory.
func (sb *Sandbox) saveInto(ctx context.Context, s *Snapshot) error {
	machine, err := sb.inHand(ctx)
	if err != nil {
		return err
	}
	if err := copyMemory(ctx, machine, s.dir); err != nil {
		return err
	}
	if sb.state() == StateRunning {
		client, err := sb.connect(ctx)
		if err != nil {
			return err
		}
		s.info.Agent = client.Hello().Agent
		if err := client.Freeze(ctx, wire.FreezeRequest{Sync: s.info.Purpose == ""}); err != nil {
			return err
		}
		defer sb.thaw(ctx, machine)
	}
	return s.save(ctx, machine, sb.m.store.Disk(sb.id))
}

// save writes down a machine, and at the same instant the disk that it has.
func (s *Snapshot) save(ctx context.Context, machine vm.Machine, own string) (err error) {
	s.info.CreatedAt = Epoch{time.Now().Round(time.Microsecond)}
	s.info.Machine, err = machine.Save(ctx, vm.SaveOptions{Dir: s.dir, Meanwhile: func(ctx context.Context) error {
		step("save")
		return disk.Copy(ctx, filepath.Join(s.dir, store.SnapshotDisk), own)
	}})
	s.info.Pause = time.Since(s.info.CreatedAt.Time)
	return err
}

// copyMemory puts a copy of what the machine was restored from where it is to be
// saved. It never changes, so that this needs no pause.
func copyMemory(ctx context.Context, machine vm.Machine, dir string) error {
	from := machine.Handle().Memory
	if from == "" {
		return nil
	}
	return disk.Copy(ctx, filepath.Join(dir, vm.SavedMemory), from)
}

// thaw lets the programs of a machine that was saved go on. They would by
// themselves, later.
func (sb *Sandbox) thaw(ctx context.Context, machine vm.Machine) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), guestPatience)
	defer cancel()
	client, err := sb.dial(ctx, machine) // saving may have cut the connection
	if err == nil {
		err = client.Identity(ctx, sb.identity())
	}
	if err != nil {
		sb.m.log.Warn("letting a saved guest go on", "sandbox", sb.id, "err", err)
	}
}

// settle measures a snapshot that is all there and flushes it to the disk: all
// that takes time, before it is given its place.
func (s *Snapshot) settle() error {
	durable := s.info.Purpose != PurposeFork // no machine survives what it would have to
	for _, name := range []string{vm.SavedState, vm.SavedMemory, store.SnapshotDisk} {
		path := filepath.Join(s.dir, name)
		_, bytes, err := disk.Usage(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && durable {
			err = flush(path)
		}
		if err != nil {
			return err
		}
		s.info.Bytes += bytes
	}
	return nil
}

// publish gives a settled snapshot its place. Until then it is a directory among
// a process's scratch.
func (s *Snapshot) publish(to string) error {
	s.info.Status = "ready"
	if s.info.Metadata == nil {
		s.info.Metadata = map[string]any{}
	}
	if err := s.record(s.info); err != nil {
		return err
	}
	if err := flush(s.dir); err != nil {
		return err
	}
	if err := os.Rename(s.dir, to); err != nil {
		return err
	}
	s.dir = to
	return flush(filepath.Dir(to))
}

// publishNamed is publish with a name: the one asked for, if it is still free, or
// else one after the sandbox.
func (m *Manager) publishNamed(s *Snapshot, name string, of Info) (err error) {
	m.naming.Lock()
	defer m.naming.Unlock()
	if name != "" {
		err = m.freeSnapshotName(name, s.id)
	} else {
		name, err = m.newSnapshotName(of)
	}
	if err != nil {
		return err
	}
	s.info.Name = name
	return s.publish(m.store.Snapshot(s.id))
}

// record writes down what is known of the snapshot.
func (s *Snapshot) record(info SnapshotInfo) error {
	b, err := json.MarshalIndent(info, "", "\t")
	if err != nil {
		return err
	}
	return s.m.store.WriteFile(filepath.Join(s.dir, store.SnapshotRecord), b)
}

// flush writes a file or directory out to the host's disk.
func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// ID is the snapshot's id.
func (s *Snapshot) ID() string { return s.id }

// Info returns what is known of the snapshot.
func (s *Snapshot) Info(context.Context) (SnapshotInfo, error) {
	now, err := s.m.openSnapshot(s.dir)
	if err != nil {
		return SnapshotInfo{}, fail("snapshot", s.id, err)
	}
	return now.info, nil
}

// openSnapshot reads the record of the snapshot in dir.
func (m *Manager) openSnapshot(dir string) (*Snapshot, error) {
	b, err := os.ReadFile(filepath.Join(dir, store.SnapshotRecord))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wire.Errorf(CodeNotFound, "there is no snapshot %s", filepath.Base(dir)).WithHint("bandsox snapshot list")
	}
	s := &Snapshot{m: m, dir: dir}
	if err == nil {
		err = json.Unmarshal(b, &s.info)
	}
	if err != nil {
		return nil, wire.Errorf(CodeInternal, "reading the record of snapshot %s: %w", filepath.Base(dir), err)
	}
	s.info.Path, s.id = dir, s.info.ID
	return s, nil
}

// SnapshotListOptions say which snapshots to list. The zero value lists those
// that somebody asked for.
type SnapshotListOptions struct {
	All bool // those that BandSox made by itself, too
}

// Snapshots lists them, the newest first.
func (m *Manager) Snapshots(_ context.Context, o SnapshotListOptions) ([]SnapshotInfo, error) {
	list, err := m.snapshots(o.All)
	if err != nil {
		return nil, fail("snapshots", "", err)
	}
	infos := make([]SnapshotInfo, 0, len(list))
	for _, s := range list {
		infos = append(infos, s.info)
	}
	return infos, nil
}

// snapshots reads all there are. A damaged record is not lost: it is logged.
func (m *Manager) snapshots(all bool) ([]*Snapshot, error) {
	dirs := []string{m.store.Snapshots()}
	if all {
		dirs = append(dirs, m.store.Templates())
	}
	var list []*Snapshot
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			s, err := m.openSnapshot(filepath.Join(dir, e.Name()))
			if err != nil {
				m.log.Warn("leaving a damaged snapshot out", "path", filepath.Join(dir, e.Name()), "err", err)
				continue
			}
			if all || s.info.Purpose == "" {
				list = append(list, s)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *Snapshot) int { return b.info.CreatedAt.Compare(a.info.CreatedAt.Time) })
	return list, nil
}

// SnapshotOf finds a snapshot by id or name.
func (m *Manager) SnapshotOf(_ context.Context, ref string) (*Snapshot, error) {
	s, err := m.findSnapshot(ref)
	return s, fail("snapshot", ref, err)
}

func (m *Manager) findSnapshot(ref string) (*Snapshot, error) {
	if store.ValidID(ref) { // so that no path is made of what is none
		return m.openSnapshot(m.store.Snapshot(ref))
	}
	list, err := m.snapshots(false)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.info.Name == ref && ref != "" {
			return s, nil
		}
	}
	return nil, wire.Errorf(CodeNotFound, "there is no snapshot %q", ref).WithHint("bandsox snapshot list")
}

// freeSnapshotName refuses a name that another snapshot has, or that is none.
func (m *Manager) freeSnapshotName(name, id string) error {
	if err := checkName(name); err != nil {
		return err
	}
	switch other, err := m.findSnapshot(name); {
	case err == nil && other.id != id:
		return wire.Errorf(CodeConflict, "snapshot %s has the name %q", other.id, name).WithHint("bandsox snapshot delete %s", name)
	case err != nil && classify(err) != CodeNotFound:
		return err
	}
	return nil
}

// newSnapshotName is the sandbox's own name, or id, and the first number that is free.
func (m *Manager) newSnapshotName(of Info) (string, error) {
	list, err := m.snapshots(false)
	if err != nil {
		return "", err
	}
	taken := map[string]bool{}
	for _, s := range list {
		taken[s.info.Name] = true
	}
	base := of.Name
	if base == "" {
		base = of.ID[:12]
	}
	base = base[:min(len(base), 50)]
	for n := 1; ; n++ {
		if name := fmt.Sprintf("%s-%d", base, n); !taken[name] {
			return name, nil
		}
	}
}

// SnapshotUpdate says what to change of a snapshot; what is nil stays as it is.
type SnapshotUpdate struct {
	Name            *string
	Metadata        map[string]any // merged, as RFC 7386 has it
	ReplaceMetadata bool           // Metadata takes the place of what is there instead
}

// Update changes the snapshot's name and metadata: all that is asked for, or on
// error nothing.
func (s *Snapshot) Update(_ context.Context, u SnapshotUpdate) error {
	return fail("update", s.id, s.update(u))
}

func (s *Snapshot) update(u SnapshotUpdate) error {
	s.m.naming.Lock()
	defer s.m.naming.Unlock()
	now, err := s.m.openSnapshot(s.dir)
	if err != nil {
		return err
	}
	info := now.info
	if u.Name != nil {
		if *u.Name == "" {
			return wire.Errorf(CodeInvalid, "a snapshot must have a name")
		}
		if err := s.m.freeSnapshotName(*u.Name, s.id); err != nil {
			return err
		}
		info.Name = *u.Name
	}
	switch {
	case u.ReplaceMetadata:
		info.Metadata = merge(nil, u.Metadata)
	case u.Metadata != nil:
		info.Metadata = merge(maps.Clone(info.Metadata), u.Metadata)
	}
	if err := checkMetadata(info.Metadata); err != nil {
		return err
	}
	if err := s.record(info); err != nil {
		return err
	}
	s.info = info
	return nil
}

// Delete throws the snapshot away. It is a conflict, which names them, while
// sandboxes run that were made from it: they share its memory.
func (s *Snapshot) Delete(ctx context.Context) error {
	return fail("delete", s.id, s.delete(ctx))
}

func (s *Snapshot) delete(ctx context.Context) error {
	s.m.snapshotting.Lock()
	defer s.m.snapshotting.Unlock()
	sharers, err := s.m.sharers(ctx)
	if err != nil {
		return err
	}
	if users := sharers[s.dir]; len(users) > 0 {
		return wire.Errorf(CodeConflict, "sandboxes run that share its memory: %s", strings.Join(users, ", ")).
			WithHint("bandsox stop %s", users[0])
	}
	return s.remove()
}

// remove takes the directory out of its place, and then away: half of one is
// never taken for a snapshot.
func (s *Snapshot) remove() error {
	grave, err := os.MkdirTemp(s.m.store.Scratch(), "deleted-*")
	if err != nil {
		return err
	}
	if err := os.Rename(s.dir, filepath.Join(grave, "snapshot")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(grave)
}

// sharers are the sandboxes whose machines share a snapshot's memory, by its directory.
func (m *Manager) sharers(ctx context.Context) (map[string][]string, error) {
	all, err := m.infos(ctx)
	if err != nil {
		return nil, err
	}
	of := map[string][]string{}
	for _, info := range all {
		if info.Machine != nil && info.Machine.Memory != "" {
			dir := filepath.Dir(info.Machine.Memory)
			of[dir] = append(of[dir], info.ID)
		}
	}
	return of, nil
}

// freeSnapshots is asked before the base of an image goes: it takes the image's
// templates along, and is a conflict while there is a snapshot.
func (m *Manager) freeSnapshots(digest string) error {
	list, err := m.snapshots(true)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.info.Digest == digest && s.info.Purpose != PurposeTemplate {
			return wire.Errorf(CodeConflict, "snapshot %s was taken of a sandbox that was made from it", s.id).
				WithHint("bandsox snapshot delete %s", s.id)
		}
	}
	for _, s := range list {
		if s.info.Digest == digest {
			if err := s.remove(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepSnapshots removes those that BandSox made for what is over: forks whose
// machines have all ended, and templates that nothing here can be restored from.
func (m *Manager) sweepSnapshots(ctx context.Context, dryRun bool) ([]Leftover, error) {
	return m.sweepOver(ctx, dryRun, true)
}

// sweepOver sweeps those that were made for forks, and templates too if they are
// to be looked at.
func (m *Manager) sweepOver(ctx context.Context, dryRun, templates bool) ([]Leftover, error) {
	m.snapshotting.Lock()
	defer m.snapshotting.Unlock()
	list, err := m.snapshots(true)
	if err != nil {
		return nil, err
	}
	sharers, err := m.sharers(ctx)
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for _, s := range list {
		if s.info.Purpose == PurposeTemplate && !templates || len(sharers[s.dir]) > 0 {
			continue
		}
		why := s.over(ctx)
		if why == "" {
			continue
		}
		found = append(found, Leftover{"snapshot", s.dir, why})
		if !dryRun {
			if err := s.remove(); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// over is why a snapshot that BandSox made by itself, and whose memory no machine
// shares, has had its time, or "".
func (s *Snapshot) over(ctx context.Context) string {
	switch s.info.Purpose {
	case PurposeFork:
		return "the sandboxes that were forked have ended"
	case PurposeTemplate:
		return s.m.stale(ctx, s)
	}
	return ""
}

// unshare is told of a machine that has ended: the snapshot that it shared the
// memory of may have been made for it.
func (m *Manager) unshare(memory string) {
	if memory == "" || filepath.Dir(filepath.Dir(memory)) != m.store.Snapshots() {
		return
	}
	m.wg.Go(func() {
		m.snapshotting.Lock()
		defer m.snapshotting.Unlock()
		s, err := m.openSnapshot(filepath.Dir(memory))
		if err != nil || s.info.Purpose != PurposeFork {
			return
		}
		sharers, err := m.sharers(context.Background())
		if err == nil && len(sharers[s.dir]) == 0 {
			err = s.remove()
		}
		if err != nil {
			m.log.Warn("removing what was made for a fork", "snapshot", s.id, "err", err)
		}
	})
}
