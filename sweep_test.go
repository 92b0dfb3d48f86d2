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
	t.Parallel()
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

// TestBasesLeaveNothing: not a build that fails, nor the removal of one that did
// not, nor the sweep of what a kill left; a base in use or in the making stays.
func TestBasesLeaveNothing(t *testing.T) {
	t.Parallel()
	dir, ref := t.TempDir(), testImage(t)
	small, err := openFakeWith(t.Context(), Config{Storage: dir, Images: ImageSources{MaxBytes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := small.Pull(t.Context(), ref); classify(err) != CodeExhausted {
		t.Errorf("an image over the limit: %v", err)
	}
	shut(t, small)

	m := newManager(t, dir)
	bases := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(m.store.Bases())
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, e := range entries {
			if e.Name() != "lock" {
				got = append(got, e.Name())
			}
		}
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("the bases are %v, want %v", got, want)
		}
	}
	bases()
	img, err := m.Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveImage(t.Context(), img.Digest); err != nil {
		t.Fatal(err)
	}
	bases()

	used := create(t, m, CreateOptions{Image: ref}).known().Digest
	gone, making := "sha256:"+strings.Repeat("0", 64), "sha256:"+strings.Repeat("1", 64)
	for _, digest := range []string{gone, making} {
		if err := os.WriteFile(m.store.Base(digest), []byte("x"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(m.store.BaseInfo(used)); err != nil {
		t.Fatal(err)
	}
	lock, err := m.store.LockBase(t.Context(), making)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	for _, dryRun := range []bool{true, false} {
		found, err := m.sweepBases(t.Context(), dryRun)
		if err != nil || len(found) != 1 || found[0].ID != m.store.Base(gone) {
			t.Errorf("dry run %v: %+v %v", dryRun, found, err)
		}
	}
	bases(filepath.Base(m.store.Base(used)), filepath.Base(m.store.Base(making)))
}

// TestCleanupLeavesALinkedKernelsDirectory: what it leads to is somebody else's.
func TestCleanupLeavesALinkedKernelsDirectory(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
