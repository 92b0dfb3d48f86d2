package disk

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// snapshot describes every file below root by a line: all that an extractor
// can get wrong.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	tree := make(map[string]string)
	first := make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if rel == "lost+found" {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("mode=%o owner=%d:%d mtime=%d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if !d.IsDir() {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			s += fmt.Sprintf(" size=%d nlink=%d as=%s", st.Size, st.Nlink, first[st.Ino])
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			s += " sha=" + sumOf(t, path)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			s += " to=" + target
		case unix.S_IFCHR, unix.S_IFBLK:
			s += fmt.Sprintf(" dev=%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		tree[rel] = s + xattrsOf(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func sumOf(t *testing.T, path string) string {
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
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func xattrsOf(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatalf("listing xattrs of %q: %v", path, err)
	}
	var out []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatalf("reading xattr %q of %q: %v", name, path, err)
		}
		out = append(out, fmt.Sprintf(" %s=%x", name, sha256.Sum256(value[:n])))
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	bad := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%.80q:\n got %s\nwant %s", name, got[name], want[name])
			if bad++; bad > 10 {
				t.Fatal("and more")
			}
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%.80q should not be there", name)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: to mount and to make devices")
	}
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := tool(name); err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
}

// mount mounts a base or disk for the length of the test.
func mount(t *testing.T, path, options string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,"+options, path, dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop mounts: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// tmpfs mounts a small file system that is soon full.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// extract is the oracle: GNU tar.
func extract(t *testing.T, tarball []byte) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	cmd := exec.Command("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore", "-xpf", "-", "-C", dir)
	cmd.Stdin = bytes.NewReader(tarball)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return dir
}

// only fails the test if dir holds anything but names.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !slices.Contains(names, e.Name()) {
			t.Errorf("%q was left behind", e.Name())
		}
	}
}
