package bandsox

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
)

// machines are those that run for sandboxes and for views of them.
func machines(t *testing.T, m *Manager) int {
	t.Helper()
	found, err := m.driver.Find(t.Context(), m.Storage())
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// TestFilesOfStopped looks at a stopped sandbox's files, and starts and deletes
// it while somebody may still be looking.
func TestFilesOfStopped(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	ctx := t.Context()
	if err := sb.WriteFile(ctx, "/root/note", []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := sb.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second look is through the first one's view
		if b, err := sb.ReadFile(ctx, "/root/note"); err != nil || string(b) != "kept" {
			t.Errorf("read %q, %v", b, err)
		}
	}
	if n := machines(t, m); n != 1 {
		t.Errorf("%d machines for one view", n)
	}
	if info, err := sb.Info(ctx); err != nil || info.Status != StateStopped {
		t.Errorf("looking made it %s (%v)", info.Status, err)
	}
	if err := sb.WriteFile(ctx, "/root/note", nil, 0o644); !errors.Is(err, ErrConflict) {
		t.Errorf("writing: %v", err)
	}
	if err := sb.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if n := machines(t, m); n != 1 {
		t.Errorf("%d machines of a started sandbox", n)
	}
	if err := sb.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Stat(ctx, "/root/note"); err != nil {
		t.Error(err)
	}
	if err := sb.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if n := machines(t, m); n != 0 {
		t.Errorf("%d machines of a deleted sandbox", n)
	}
	nothingLeft(t, m.Storage())
}

// TestViewOfTheDead sweeps a view whose manager was killed.
func TestViewOfTheDead(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	dead := filepath.Join(m.store.ScratchDirs(), store.Owner{PID: 1 << 30, StartTime: 1}.String())
	dir := filepath.Join(dead, "view-1", "machine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.driver.Boot(t.Context(), vm.Spec{ID: "view", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if left, err := m.Cleanup(t.Context(), true); err != nil || len(left) != 1 || machines(t, m) != 1 {
		t.Errorf("a dry run finds %v, %v", left, err)
	}
	if _, err := m.Cleanup(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) || machines(t, m) != 0 {
		t.Errorf("left: %d machines, %v", machines(t, m), err)
	}
}

// TestViewChangesNothing reads from the disks of a sandbox that was stopped and
// of one that was cut off.
func TestViewChangesNothing(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	sb := create(t, m, CreateOptions{Image: image, MemMiB: 128, DiskSizeMiB: 256})
	ctx := t.Context()
	if err := sb.Shell("echo kept >/root/note; rm /etc/hostname; sync").Run(ctx); err != nil {
		t.Fatal(err)
	}
	for how, end := range map[string]func() error{
		"stopped": func() error { return sb.Stop(ctx, time.Second) },
		"cut off": func() error { return sb.Kill(ctx) },
	} {
		if info, _ := sb.Info(ctx); info.Status == StateStopped {
			if err := sb.Start(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		before := fileSum(t, m.store.Disk(sb.ID()))
		if b, err := sb.ReadFile(ctx, "/root/note"); err != nil || string(b) != "kept\n" {
			t.Errorf("%s: read %q, %v", how, b, err)
		}
		if b, err := sb.ReadFile(ctx, "/bin/busybox"); err != nil || len(b) == 0 {
			t.Errorf("%s: a file of the base: %d bytes, %v", how, len(b), err)
		}
		if info, err := sb.Info(ctx); err != nil || info.Status != StateStopped {
			t.Errorf("%s: looking made it %s (%v)", how, info.Status, err)
		}
		if !bytes.Equal(before, fileSum(t, m.store.Disk(sb.ID()))) {
			t.Errorf("%s: looking changed the disk", how)
		}
	}
	if err := sb.Delete(ctx); err != nil {
		t.Fatal(err)
	}
}

func fileSum(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}
