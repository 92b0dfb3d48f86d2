package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

func (s *service) write(t *testing.T, w wire.WriteRequest, content string) {
	t.Helper()
	n, err := s.client.Write(context2(t), w, bytes.NewReader([]byte(content)))
	if err != nil || n != int64(len(content)) {
		t.Fatalf("writing %+v: %d, %v", w, n, err)
	}
}

func (s *service) onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, dir))
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("in %s: %v, %v; want %s alone", dir, entries, err, name)
	}
}

func TestWriteAndRead(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.write(t, wire.WriteRequest{Path: "/a/b/c", Parents: true}, "hello world")
	stat, r, err := s.client.Read(context2(t), wire.ReadRequest{Path: "a/b/c", Offset: 3, Length: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || string(b) != "lo wo" || stat.Size != 11 || stat.Type != "file" || stat.Mode != 0o644 {
		t.Errorf("%q, %v, %+v", b, err, stat)
	}
	s.onlyFile(t, "a/b", "c")
	s.write(t, wire.WriteRequest{Path: "/a/b/c", Append: true}, "!")
	s.write(t, wire.WriteRequest{Path: "/a/b/c", Append: true}, "!")
	if b, _ := os.ReadFile(s.root + "/a/b/c"); string(b) != "hello world!!" {
		t.Errorf("appended: %q", b)
	}
}

func TestWriteKeepsModeAndOwner(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	path := s.root + "/f"
	os.WriteFile(path, []byte("old"), 0o600)
	syscall.Chmod(path, 0o4710)
	uid := os.Geteuid()
	if uid == 0 {
		uid = 4321
		os.Chown(path, 4321, 8765)
		syscall.Chmod(path, 0o4710)
	}
	os.Symlink("f", s.root+"/link")
	s.write(t, wire.WriteRequest{Path: "link"}, "new") // through the symlink
	st, err := s.client.Stat(context2(t), "f")
	if err != nil || st.Mode != 0o4710 || st.UID != uint32(uid) || st.Size != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	if l, err := s.client.Stat(context2(t), "link"); err != nil || l.Type != "symlink" || l.Target != "f" {
		t.Errorf("%+v, %v", l, err)
	}
	s.write(t, wire.WriteRequest{Path: "f", Mode: 0o755}, "new")
	if st, _ := s.client.Stat(context2(t), "f"); st.Mode != 0o755 {
		t.Errorf("mode %o", st.Mode)
	}
}

// TestWriteKeepsAttributes: what takes a file's place has its attributes, but
// not those that vouch for the content.
func TestWriteKeepsAttributes(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	path := s.root + "/f"
	fresh := func() {
		t.Helper()
		os.Remove(path)
		if err := os.WriteFile(path, []byte("old text"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(path, "user.bandsox", []byte("value"), 0); err != nil {
			t.Skip("no extended attributes here: ", err)
		}
		if os.Geteuid() == 0 {
			none := make([]byte, 20) // capabilities of revision 2, no bit set
			none[3] = 2
			if err := unix.Setxattr(path, "security.capability", none, 0); err != nil {
				t.Log("not tried with capabilities: ", err)
			}
		}
	}
	check := func(how, content string) {
		t.Helper()
		b := make([]byte, 100)
		n, err := unix.Getxattr(path, "user.bandsox", b)
		if err != nil || string(b[:n]) != "value" {
			t.Errorf("%s: %q, %v", how, b[:max(n, 0)], err)
		}
		if _, err := unix.Getxattr(path, "security.capability", b); err != unix.ENODATA {
			t.Errorf("%s: capabilities: %v", how, err)
		}
		fi, err := os.Stat(path)
		if got, _ := os.ReadFile(path); err != nil || string(got) != content || fi.Mode() != 0o640 {
			t.Errorf("%s: %v, %q", how, fi.Mode(), got)
		}
	}
	fresh()
	s.write(t, wire.WriteRequest{Path: "f"}, "new")
	check("write", "new")
	fresh()
	s.change(t, wire.OpReplace, wire.ChangeRequest{Path: "f", Old: "old", New: "new"})
	check("replace", "new text")
	fresh()
	_, err := s.client.Resume(context2(t), wire.WriteRequest{Path: "f", Partial: "0123"}, func(int64) (io.Reader, error) {
		return bytes.NewReader([]byte("whole")), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	check("resume", "whole")
}

func TestBigFileRoundTrip(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	n := int64(size(100_000_000))
	want := sha256.New()
	sent, err := s.client.Write(context2(t), wire.WriteRequest{Path: "big"}, io.TeeReader(io.LimitReader(&noise{3}, n), want))
	if err != nil || sent != n {
		t.Fatal(sent, err)
	}
	_, r, err := s.client.Read(context2(t), wire.ReadRequest{Path: "big"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := sha256.New()
	if back, err := io.Copy(got, r); err != nil || back != n || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes of %d came back, or others: %v", back, n, err)
	}
}

// TestReadsTwoWays: what is left after some reads goes to a writer whole, and
// a writer that takes less than all is an error that loses nothing silently.
func TestReadsTwoWays(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	c, root := s.client, s.root
	data := make([]byte, 3<<20+7)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	if err := os.WriteFile(root+"/f", data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, r, err := c.Read(context2(t), wire.ReadRequest{Path: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got bytes.Buffer
	if _, err := io.CopyN(&got, r, 100_001); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(&got, r)
	if err != nil || n != int64(len(data)-100_001) || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	_, r, err = c.Read(context2(t), wire.ReadRequest{Path: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(lazy{}, r); err != io.ErrShortWrite || n == 0 {
		t.Errorf("a writer that takes half: %d, %v", n, err)
	}
}

// lazy takes half of what it is given and says nothing of it.
type lazy struct{}

func (lazy) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestBrokenWriteChangesNothing(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.write(t, wire.WriteRequest{Path: "d/f", Parents: true}, "precious")
	old := errors.New("the source broke")
	src := io.MultiReader(io.LimitReader(&noise{4}, 3<<20), iotest.ErrReader(old))
	if _, err := s.client.Write(context2(t), wire.WriteRequest{Path: "d/f"}, src); err != old {
		t.Errorf("a broken source: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stuck, feed := io.Pipe()
	go func() {
		io.CopyN(feed, &noise{5}, 1<<20)
		cancel() // and never more: Write must not wait for its source
	}()
	_, err := s.client.Write(ctx, wire.WriteRequest{Path: "d/f"}, stuck)
	wantCode(t, err, wire.Unavailable, "context canceled")
	stuck.Close()
	eventually(t, "the temporary files go", func() bool {
		entries, _ := os.ReadDir(s.root + "/d")
		return len(entries) == 1
	})
	if b, _ := os.ReadFile(s.root + "/d/f"); string(b) != "precious" {
		t.Errorf("the file is %d bytes", len(b))
	}

	stuck, feed = io.Pipe()
	go func() {
		io.CopyN(feed, &noise{6}, 1<<20)
		s.conn.Close()
	}()
	_, err = s.client.Write(context2(t), wire.WriteRequest{Path: "d/f"}, stuck)
	wantCode(t, err, wire.Unavailable, "")
	stuck.Close()
	<-s.over
	s.onlyFile(t, "d", "f")
	if b, _ := os.ReadFile(s.root + "/d/f"); string(b) != "precious" {
		t.Errorf("the file is %d bytes", len(b))
	}
}

func TestFileErrors(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	os.Mkdir(s.root+"/dir", 0o755)
	os.WriteFile(s.root+"/file", nil, 0o644)
	os.Symlink("loop", s.root+"/loop")
	syscall.Mkfifo(s.root+"/fifo", 0o644)
	for _, c := range []struct {
		path        string
		read, write wire.Code
	}{
		{"missing/x", wire.NotFound, wire.NotFound},
		{"dir", wire.Invalid, wire.Invalid},
		{"dir/", wire.Invalid, wire.Invalid},
		{"", wire.Invalid, wire.Invalid},
		{"fifo", wire.Invalid, wire.Invalid},
		{"file/x", wire.Invalid, wire.Invalid},
		{"loop", wire.Invalid, wire.Invalid},
	} {
		_, _, err := s.client.Read(context2(t), wire.ReadRequest{Path: c.path})
		wantCode(t, err, c.read, c.path)
		_, err = s.client.Write(context2(t), wire.WriteRequest{Path: c.path}, bytes.NewReader(make([]byte, 1<<20)))
		wantCode(t, err, c.write, c.path)
	}
	_, err := s.client.Stat(context2(t), "missing")
	wantCode(t, err, wire.NotFound, "missing")
}

func TestReadsWhatSaysItIsEmpty(t *testing.T) {
	s := start(t, guest.ServeConfig{Root: "/"})
	stat, r, err := s.client.Read(context2(t), wire.ReadRequest{Path: "/proc/self/status"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || stat.Size != 0 || !bytes.Contains(b, []byte("VmRSS")) {
		t.Errorf("%+v, %v, %q", stat, err, b)
	}
}

func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small file system")
	}
	s := start(t, guest.ServeConfig{})
	small := s.root + "/small"
	os.Mkdir(small, 0o755)
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	s.write(t, wire.WriteRequest{Path: "small/f"}, "precious")
	_, err := s.client.Write(context2(t), wire.WriteRequest{Path: "small/f"}, io.LimitReader(&noise{7}, 8<<20))
	wantCode(t, err, wire.Exhausted, "no space left")
	s.onlyFile(t, "small", "f")
}
