package bandsox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// A template is a snapshot of a sandbox that had just booted, before anything ran
// in it. It is made of a machine of its own, behind the first create of its kind.

// templateFor is everything that a template's sandboxes have in common: its key.
type templateFor struct {
	Machine     vm.Saved
	Kernel      string
	Initrd      string // named by the agent's digest and the kernel's
	Digest      string
	VCPU        int
	MemMiB      int
	DiskSizeMiB int // a larger one grows
}

// templateKey is that of the template which a sandbox could go on from, or "".
func (m *Manager) templateKey(ctx context.Context, sb *Sandbox, o CreateOptions) string {
	if o.NoTemplate || m.cfg.NoTemplates {
		return ""
	}
	art, err := m.artifact(ctx)
	if err != nil {
		return "" // the boot will say so
	}
	saved, err := m.driver.Saved(ctx)
	if err != nil {
		return ""
	}
	info := sb.known()
	b, _ := json.Marshal(templateFor{Machine: saved, Kernel: art.digest, Initrd: filepath.Base(art.initrd), Digest: info.Digest,
		VCPU: info.VCPU, MemMiB: info.MemMiB, DiskSizeMiB: min(info.DiskSizeMiB, DefaultDiskSizeMiB)})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// fromTemplate makes the sandbox ready by its template. Not done: there is none,
// or it is no good, and what was begun is undone, so that it can boot instead.
func (sb *Sandbox) fromTemplate(ctx context.Context, key string, lock *store.FileLock, times *phases, undo *stack) (done bool, err error) {
	m := sb.m
	m.snapshotting.RLock()
	defer m.snapshotting.RUnlock()
	s, err := m.openSnapshot(m.store.Template(key))
	if err != nil {
		if classify(err) != CodeNotFound {
			m.log.Warn("a template is damaged: booting instead", "template", key, "err", err)
		}
		return false, nil
	}
	var begun stack
	if err = sb.restore(ctx, s, lock, times, &begun); err == nil {
		undo.take(begun)
		now := time.Now()
		_ = os.Chtimes(filepath.Join(s.dir, store.SnapshotRecord), now, now) // it is in use
		return true, nil
	}
	if ctx.Err() != nil || classify(err) == CodeExhausted {
		undo.take(begun)
		return false, err
	}
	m.log.Warn("a sandbox can't go on from its template: booting instead", "sandbox", sb.id, "template", key, "err", err)
	begun.run(m)
	if err := os.Remove(m.store.Disk(sb.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	go m.dropTemplate(s)
	return false, nil
}

// dropTemplate removes one that failed, so that the next create makes another.
func (m *Manager) dropTemplate(s *Snapshot) {
	m.snapshotting.Lock()
	defer m.snapshotting.Unlock()
	if sharers, err := m.sharers(context.Background()); err != nil || len(sharers[s.dir]) > 0 {
		return
	}
	if err := s.remove(); err != nil {
		m.log.Warn("removing a damaged template", "template", filepath.Base(s.dir), "err", err)
	}
}

// templates are those that are being made.
type templates struct {
	mu     sync.Mutex
	making map[string]bool
	wg     sync.WaitGroup
	one    sync.Mutex // held while one is made: the host has more to do
}

// begin says whether a template is to be made now, by whoever asks.
func (t *templates) begin(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.making[key] {
		return false
	}
	if t.making == nil {
		t.making = map[string]bool{}
	}
	t.making[key] = true
	t.wg.Add(1)
	return true
}

func (t *templates) end(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.making, key)
	t.wg.Done()
}

// wait returns when those that have been begun are made: a program that makes
// one sandbox and goes would never have one otherwise.
func (t *templates) wait() { t.wg.Wait() }

// templateTimeout bounds the making of one.
const templateTimeout = 3 * time.Minute

// wantTemplate makes a template for sandboxes like this one, in the background.
func (m *Manager) wantTemplate(key string, like Info, again bool) {
	if !m.templates.begin(key) {
		return
	}
	go func() {
		defer m.templates.end(key)
		ctx, cancel := context.WithTimeout(context.Background(), templateTimeout)
		defer cancel()
		m.templates.one.Lock()
		defer m.templates.one.Unlock()
		if err := m.makeTemplate(ctx, key, like, again); err != nil {
			m.log.Warn("making a template", "image", like.Image, "err", err)
		}
	}()
}

func (m *Manager) makeTemplate(ctx context.Context, key string, like Info, again bool) (err error) {
	to := m.store.Template(key)
	if _, err := os.Stat(to); err == nil && !again {
		return nil // another process made it
	}
	dir, err := os.MkdirTemp(m.store.Scratch(), "template-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &Snapshot{m: m, dir: filepath.Join(dir, "snapshot"), id: store.NewID()}
	s.info = SnapshotInfo{ID: s.id, Purpose: PurposeTemplate, Image: like.Image, Digest: like.Digest, VCPU: like.VCPU,
		MemMiB: like.MemMiB, DiskSizeMiB: min(like.DiskSizeMiB, DefaultDiskSizeMiB), Config: like.Config}
	if err := m.bootTemplate(ctx, dir, s); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	if again {
		if old, err := m.openSnapshot(to); err == nil {
			m.snapshotting.Lock()
			err = old.remove()
			m.snapshotting.Unlock()
			if err != nil {
				return err
			}
		}
	}
	return s.publish(to)
}

// bootTemplate boots a machine, saves it as s before anything has run in it, and
// ends it. The files of a process's scratch go with it when it dies, machines too.
func (m *Manager) bootTemplate(ctx context.Context, dir string, s *Snapshot) (err error) {
	art, err := m.artifact(ctx)
	if err != nil {
		return err
	}
	s.info.Kernel = art.digest
	own := filepath.Join(dir, "machine", store.SnapshotDisk)
	for _, d := range []string{filepath.Dir(own), s.dir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := disk.Create(ctx, own, s.info.DiskSizeMiB); err != nil {
		return err
	}
	spec := m.spec(s.id, filepath.Dir(own), s.info.Digest, own, s.info.VCPU, s.info.MemMiB)
	spec.Kernel, spec.Initrd = art.kernel, art.initrd
	machine, err := m.driver.Boot(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Kill()) }()
	client, err := agent.Connect(ctx, machine.Dial)
	if err != nil {
		return err
	}
	defer client.Close()
	s.info.Agent = client.Hello().Agent
	// Who it is will be put over this: the first to be somebody is slow.
	if err := client.Identity(ctx, wire.Identity{Hostname: "template", MachineID: strings.Repeat("0", 32), Hosts: map[string]string{"template": "127.0.1.1"}}); err != nil {
		return err
	}
	if err := client.Freeze(ctx, wire.FreezeRequest{Sync: true}); err != nil {
		return err
	}
	return s.save(ctx, machine, own)
}

// templateUnused is after how long without a use a template goes.
const templateUnused = 30 * 24 * time.Hour

// stale is why nothing will be restored from a template any more, or "".
func (m *Manager) stale(ctx context.Context, s *Snapshot) string {
	if _, err := os.Stat(m.store.BaseInfo(s.info.Digest)); errors.Is(err, fs.ErrNotExist) {
		return "its image is gone"
	}
	if st, err := os.Stat(filepath.Join(s.dir, store.SnapshotRecord)); err == nil && time.Since(st.ModTime()) > templateUnused {
		return "it was not used for long"
	}
	if now, err := m.driver.Saved(ctx); err == nil {
		if err := s.info.Machine.Fits(now); err != nil {
			return err.Error()
		}
	}
	if art, err := m.artifact(ctx); err == nil && art.digest != s.info.Kernel {
		return "it has another kernel"
	}
	return ""
}
