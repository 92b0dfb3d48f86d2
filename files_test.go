package bandsox

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// counting is random-looking bytes that tell their place.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestFileReadAnywhere(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb, ctx := create(t, m, CreateOptions{}), t.Context()
	data := counting(3 << 20)
	if err := sb.WriteFile(ctx, "/f", data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := sb.Open(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st := f.Stat(); st.Size != int64(len(data)) || st.Mode != 0o600 {
		t.Errorf("%+v", st)
	}
	b := make([]byte, 1000)
	for _, at := range []int64{0, 1 << 20, 5, 3<<20 - 1000} {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, b); err != nil || !bytes.Equal(b, data[at:at+1000]) {
			t.Errorf("at %d: %v", at, err)
		}
	}
	if n, err := f.Read(b); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d %v", n, err)
	}
	if n, err := f.ReadAt(b, 3<<20-10); n != 10 || err != io.EOF {
		t.Errorf("over the end: %d %v", n, err)
	}
	if at, err := f.Seek(-10, io.SeekEnd); err != nil || at != 3<<20-10 {
		t.Errorf("from the end: %d %v", at, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); !errors.Is(err, ErrInvalid) {
		t.Errorf("before the beginning: %v", err)
	}
	if got, err := sb.ReadRange(ctx, "/f", 100, 7); err != nil || !bytes.Equal(got, data[100:107]) {
		t.Errorf("a range: %v %v", got, err)
	}
	if sum, err := sb.Sum(ctx, "/f"); err != nil || sum != hexSum(data) {
		t.Errorf("sum %s %v", sum, err)
	}
	// Another file in its place is not read as if it were the same.
	if err := sb.WriteFile(ctx, "/f2", []byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	if err := sb.Shell("mv f2 f").Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(b, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("of another file: %v", err)
	}
}

func hexSum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func TestFileWriteByAndBy(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb, ctx := create(t, m, CreateOptions{}), t.Context()
	read := func() string { b, _ := sb.ReadFile(ctx, "/d/f"); return string(b) }
	w, err := sb.Create(ctx, "/d/f")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "one ")
	io.WriteString(w, "two")
	if err := w.Close(); err != nil || read() != "one two" {
		t.Errorf("%q %v", read(), err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, ErrInvalid) {
		t.Errorf("after Close: %v", err)
	}
	if w, err = sb.Create(ctx, "/d/f"); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "gone")
	w.Abort()
	if err := sb.AppendFile(ctx, "/d/f", []byte(" three")); err != nil || read() != "one two three" {
		t.Errorf("%q %v", read(), err)
	}
	if w, err = sb.Create(ctx, "/d"); err == nil {
		_, err = w.Write(make([]byte, 4<<20))
		err = errors.Join(err, w.Close())
	}
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("in place of a directory: %v", err)
	}
}

func TestUploadGoesOn(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb, ctx := create(t, m, CreateOptions{}), t.Context()
	data := counting(5 << 20)
	local := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(local, data, 0o750); err != nil {
		t.Fatal(err)
	}
	client, err := sb.running(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// A session that ends in the middle.
	big := TransferOptions{Resume: true, Sum: true, Progress: func(done, total int64) {
		if done > 2<<20 {
			client.Close()
		}
	}}
	if _, err := sb.Upload(ctx, local, "/up/f", big); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a broken upload: %v", err)
	}
	tr, err := sb.Upload(ctx, local, "/up/f", TransferOptions{Resume: true, Sum: true})
	if err != nil || tr.Resumed == 0 || tr.Bytes != int64(len(data)) || tr.SHA256 != hexSum(data) {
		t.Fatalf("%+v %v", tr, err)
	}
	if got, err := sb.ReadFile(ctx, "/up/f"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came, or others: %v", len(got), err)
	}
	if out, err := sb.Shell("ls -A up; stat -c %a up/f").Output(ctx); err != nil || string(out) != "f\n750\n" {
		t.Errorf("in the guest: %q %v", out, err)
	}
}

func TestDownloadGoesOn(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb, ctx := create(t, m, CreateOptions{}), t.Context()
	data := counting(5 << 20)
	if err := sb.WriteFile(ctx, "/f", data, 0o640); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	local := filepath.Join(dir, "f")
	os.WriteFile(local, []byte("old"), 0o600)
	breakOff := func() {
		t.Helper()
		client, err := sb.running(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sb.Download(ctx, "/f", local, TransferOptions{Resume: true, Progress: func(done, total int64) {
			if done > 2<<20 {
				client.Close()
			}
		}})
		if !errors.Is(err, ErrUnavailable) {
			t.Fatalf("a broken download: %v", err)
		}
		if b, _ := os.ReadFile(local); string(b) != "old" {
			t.Errorf("the file holds %d bytes", len(b))
		}
	}
	breakOff()
	tr, err := sb.Download(ctx, "/f", local, TransferOptions{Resume: true, Sum: true})
	if err != nil || tr.Resumed == 0 || tr.Bytes != int64(len(data)) || tr.SHA256 != hexSum(data) {
		t.Fatalf("%+v %v", tr, err)
	}
	fi, err := os.Stat(local)
	if b, _ := os.ReadFile(local); err != nil || !bytes.Equal(b, data) || fi.Mode() != 0o640 {
		t.Errorf("%d bytes came, or others: %v %v", len(b), fi.Mode(), err)
	}
	// A file that has changed is begun again.
	os.WriteFile(local, []byte("old"), 0o600)
	breakOff()
	if err := sb.WriteFile(ctx, "/f", []byte("shorter now"), 0); err != nil {
		t.Fatal(err)
	}
	tr, err = sb.Download(ctx, "/f", local, TransferOptions{Resume: true})
	if b, _ := os.ReadFile(local); err != nil || tr.Resumed != 0 || string(b) != "shorter now" {
		t.Errorf("%+v %q %v", tr, b, err)
	}
	// What nobody goes on with is kept for a day.
	old, _ := filepath.Glob(dir + "/.f.*.part")
	if len(old) != 1 {
		t.Fatalf("partial files: %v", old)
	}
	os.Chtimes(old[0], time.Now(), time.Now().Add(-25*time.Hour))
	if _, err = sb.Download(ctx, "/f", local, TransferOptions{Resume: true}); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if _, err := sb.Download(ctx, "/none", local, TransferOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := sb.Download(ctx, "/f", dir, TransferOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("onto a directory: %v", err)
	}
}

func TestCopyTrees(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb, ctx := create(t, m, CreateOptions{}), t.Context()
	files := fstest.MapFS{"a/b": {Data: []byte("b"), Mode: 0o644}, "c": {Data: []byte("see"), Mode: 0o755}}
	var done int64
	if err := sb.CopyTo(ctx, files, "/tree", CopyOptions{Progress: func(n, _ int64) { done = n }}); err != nil || done != 4 {
		t.Fatal(done, err)
	}
	local := filepath.Join(t.TempDir(), "new")
	if err := sb.CopyFrom(ctx, "/tree", local, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(local + "/a/b"); err != nil || string(b) != "b" {
		t.Errorf("%q %v", b, err)
	}
	if fi, err := os.Stat(local + "/c"); err != nil || fi.Mode() != fs.FileMode(0o755) {
		t.Errorf("%v %v", fi, err)
	}
	var archive bytes.Buffer
	if err := sb.Tar(ctx, "/tree", &archive, CopyOptions{Name: "top"}); err != nil {
		t.Fatal(err)
	}
	names := ""
	for r := tar.NewReader(bytes.NewReader(archive.Bytes())); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		names += h.Name + " "
	}
	for _, want := range []string{"top/ ", "top/a/ ", "top/a/b ", "top/c "} {
		if !strings.Contains(names, want) {
			t.Errorf("the archive has %q, not %q", names, want)
		}
	}
	if n, err := sb.Untar(ctx, &archive, "/again", CopyOptions{}); err != nil || n != 4 {
		t.Errorf("%d %v", n, err)
	}
	if b, err := sb.ReadFile(ctx, "/again/top/a/b"); err != nil || string(b) != "b" {
		t.Errorf("%q %v", b, err)
	}
	if err := sb.CopyFrom(ctx, "/tree/c", local, CopyOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a file as a tree: %v", err)
	}
	if err := sb.CopyFrom(ctx, "/tree", local, CopyOptions{MaxBytes: 3}); !errors.Is(err, ErrExhausted) {
		t.Errorf("more than asked for: %v", err)
	}
}

// TestEmptyPath: an empty path is no file, and not the root; a relative one is
// taken from there.
func TestEmptyPath(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	_, errRead := sb.ReadFile(t.Context(), "")
	_, errRange := sb.ReadRange(t.Context(), "", 0, 1)
	_, errStat := sb.Stat(t.Context(), "")
	for _, err := range []error{errRead, errRange, errStat} {
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "the path is empty") {
			t.Errorf("got %v", err)
		}
	}
	if err := sb.WriteFile(t.Context(), "relative", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if b, err := sb.ReadFile(t.Context(), "/relative"); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
}
