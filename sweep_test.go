package bandsox

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCleanupOfWhatNothingUses: old kernels, initial file systems and builds
// go, those in use or under way stay, and a dry run only tells.
func TestCleanupOfWhatNothingUses(t *testing.T) {
	m := newManager(t, t.TempDir())
	m.builds = t.TempDir()
	current, used, old := strings.Repeat("a", 12), strings.Repeat("b", 12), strings.Repeat("c", 12)
	kernels, long := m.store.Kernels(), time.Now().Add(-time.Hour)
	for _, dir := range []string{
		filepath.Join(kernels, current), filepath.Join(kernels, used), filepath.Join(kernels, old),
		filepath.Join(kernels, ".stage-x"), filepath.Join(kernels, "download"),
		filepath.Join(m.builds, "bandsox-base-1", "etc"), filepath.Join(m.builds, "bandsox-base-2"), filepath.Join(m.builds, "another"),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(current, filepath.Join(kernels, "current")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "young", "old"} {
		path := m.store.Initramfs(name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "young" {
			if err := os.Chtimes(path, long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.artifact = func(context.Context) (artifacts, error) {
		return artifacts{kernel: "none", initrd: m.store.Initramfs("mine"), digest: "sha256:" + used + strings.Repeat("0", 52)}, nil
	}
	create(t, m, CreateOptions{}) // it runs with the kernel that is used
	building, err := os.Open(filepath.Join(m.builds, "bandsox-base-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer building.Close()
	if err := syscall.Flock(int(building.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}

	goes := []string{filepath.Join(kernels, ".stage-x"), filepath.Join(kernels, old), m.store.Initramfs("old"), filepath.Join(m.builds, "bandsox-base-1")}
	for _, dryRun := range []bool{true, true, false} {
		found, err := m.Cleanup(t.Context(), dryRun)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, l := range found {
			paths = append(paths, l.ID)
		}
		if !slices.Equal(paths, goes) {
			t.Errorf("dry run %v: %v, want %v", dryRun, paths, goes)
		}
		for _, path := range goes {
			if _, err := os.Lstat(path); (err == nil) != dryRun {
				t.Errorf("dry run %v: %s: %v", dryRun, path, err)
			}
		}
	}
	if found, err := m.Cleanup(t.Context(), false); err != nil || len(found) > 0 {
		t.Errorf("a second cleanup: %+v %v", found, err)
	}
	for _, path := range []string{filepath.Join(kernels, used), filepath.Join(kernels, "download"), m.store.Initramfs("mine"),
		m.store.Initramfs("young"), filepath.Join(m.builds, "bandsox-base-2"), filepath.Join(m.builds, "another")} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it should have stayed: %v", err)
		}
	}
}

// TestCleanupLeavesALinkedKernelsDirectory: what it leads to is somebody else's.
func TestCleanupLeavesALinkedKernelsDirectory(t *testing.T) {
	m := newManager(t, t.TempDir())
	theirs := t.TempDir()
	old := filepath.Join(theirs, strings.Repeat("c", 12))
	if err := os.Mkdir(old, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Symlink("aaaaaaaaaaaa", filepath.Join(theirs, "current")), os.Remove(m.store.Kernels()), os.Symlink(theirs, m.store.Kernels())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if found, err := m.Cleanup(t.Context(), false); err != nil || len(found) > 0 {
		t.Errorf("found %+v %v", found, err)
	}
	if _, err := os.Stat(old); err != nil {
		t.Error(err)
	}
}

// TestDamagedRecordHidesNoOther: one record that can't be read is no reason to
// lose the rest, nor to touch its machine.
func TestDamagedRecordHidesNoOther(t *testing.T) {
	dir, image := t.TempDir(), testImage(t)
	m := newManager(t, dir)
	good, bad := create(t, m, CreateOptions{Image: image}), create(t, m, CreateOptions{Image: image})
	row, err := encode(bad.known(), bad.owner)
	if err != nil {
		t.Fatal(err)
	}
	whole := row
	row.Record = []byte("{")
	if err := m.store.Update(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	next := newManager(t, dir)
	list, err := next.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 1 || list[0].ID != good.ID() {
		t.Errorf("listed %+v %v", list, err)
	}
	if found, err := next.driver.Find(t.Context(), dir); err != nil || len(found) != 2 {
		t.Errorf("machines: %+v %v", found, err)
	}
	if err := next.store.Update(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	next.Close()
	shut(t, newManager(t, dir)) // with its record, it can be deleted
	nothingLeft(t, dir)
}
