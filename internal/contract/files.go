package contract

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/bandsox/bandsox"
)

// Files are the methods of a Box about files.
type Files interface {
	Stat(ctx context.Context, path string) (bandsox.Stat, error)
	Open(ctx context.Context, path string) (*bandsox.File, error)
	ReadFile(ctx context.Context, path string) ([]byte, error)
	ReadRange(ctx context.Context, path string, offset, length int64) ([]byte, error)
	Sum(ctx context.Context, path string) (string, error)
	WriteFile(ctx context.Context, path string, data []byte, perm fs.FileMode) error
	WriteFrom(ctx context.Context, path string, r io.Reader, perm fs.FileMode) (int64, error)
	Write(ctx context.Context, path string, r io.Reader, o bandsox.WriteOptions) (int64, error)
	AppendFile(ctx context.Context, path string, data []byte) error
	Create(ctx context.Context, path string) (*bandsox.FileWriter, error)
	Upload(ctx context.Context, local, path string, o bandsox.TransferOptions) (bandsox.Transfer, error)
	Download(ctx context.Context, path, local string, o bandsox.TransferOptions) (bandsox.Transfer, error)
	CopyTo(ctx context.Context, fsys fs.FS, dir string, o bandsox.CopyOptions) error
	CopyFrom(ctx context.Context, dir, local string, o bandsox.CopyOptions) error
	Tar(ctx context.Context, path string, w io.Writer, o bandsox.CopyOptions) error
	Untar(ctx context.Context, r io.Reader, dir string, o bandsox.CopyOptions) (int64, error)
	ReadDir(ctx context.Context, dir string) ([]bandsox.Stat, error)
	Walk(ctx context.Context, root string, o bandsox.WalkOptions) iter.Seq2[bandsox.Stat, error]
	Glob(ctx context.Context, pattern string) ([]string, error)
	Exists(ctx context.Context, path string) (bool, error)
	Lines(ctx context.Context, path string, offset, limit int64) (bandsox.Lines, error)
	Search(ctx context.Context, o bandsox.SearchOptions) iter.Seq2[bandsox.Match, error]
	Mkdir(ctx context.Context, path string, o bandsox.MkdirOptions) error
	Rename(ctx context.Context, from, to string, o bandsox.RenameOptions) error
	Remove(ctx context.Context, path string, o bandsox.RemoveOptions) error
	Chmod(ctx context.Context, path string, mode fs.FileMode, o bandsox.ChmodOptions) error
	Chown(ctx context.Context, path, owner string, o bandsox.ChownOptions) error
	Symlink(ctx context.Context, target, path string) error
	Replace(ctx context.Context, path, old, new string, o bandsox.ReplaceOptions) (int64, error)
	Watch(ctx context.Context, path string, o bandsox.WatchOptions) iter.Seq2[bandsox.FileEvent, error]
}

// oddNames are names that some layer may take for something else.
var oddNames = []string{"with space", "a%2Fb%00", "umläut-日本-\U0001F600", "new\nline", "not\xffutf8\x80", "q?x=1&y#z", `quo"te\back`, "+plus;semi"}

// data is bytes that tell their place.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func filesRead(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	big := data(3 << 20)
	ok(t, "write", b.WriteFile(ctx, "/d/f", big, 0o600))
	ok(t, "write nothing", b.WriteFile(ctx, "/d/empty", nil, 0))
	ok(t, "write a little", b.WriteFile(ctx, "/d/small", []byte("small"), 0))
	f, err := b.Open(ctx, "/d/f")
	ok(t, "open", err)
	defer f.Close()
	if st := f.Stat(); st.Size != int64(len(big)) || st.Mode != 0o600 || st.Type != "file" || st.Inode == 0 || st.Path != "/d/f" {
		t.Errorf("got %+v", st)
	}
	p := make([]byte, 1000)
	for _, at := range []int64{0, 1 << 20, 5, 3<<20 - 1000} {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, p); err != nil || !bytes.Equal(p, big[at:at+1000]) {
			t.Errorf("at %d: %v", at, err)
		}
	}
	if n, err := f.Read(p); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d %v", n, err)
	}
	if n, err := f.ReadAt(p, 3<<20-10); n != 10 || err != io.EOF {
		t.Errorf("over the end: %d %v", n, err)
	}
	for _, c := range []struct {
		path        string
		offset, len int64
		want        []byte
	}{
		{"/d/f", 0, 0, big}, {"/d/f", 7, 0, big[7:]}, {"/d/f", 100, 7, big[100:107]}, {"/d/f", 3<<20 - 1, 100, big[3<<20-1:]}, {"/d/f", 3 << 20, 1, nil}, {"/d/f", 4 << 20, 0, nil},
		{"/d/small", 1, 3, []byte("mal")}, {"/d/small", 5, 0, nil}, {"/d/small", 4, 9, []byte("l")}, {"/d/empty", 0, 0, nil}, {"/d/empty", 1, 1, nil},
	} {
		if got, err := b.ReadRange(ctx, c.path, c.offset, c.len); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s, %d from %d: %d bytes, %v", c.path, c.len, c.offset, len(got), err)
		}
	}
	_, err = b.ReadRange(ctx, "/d/f", -1, 1)
	is(t, "a negative offset", err, bandsox.ErrInvalid)
	if got, err := b.Sum(ctx, "/d/f"); err != nil || got != sum(big) {
		t.Errorf("sum: %s %v", got, err)
	}
	if got, err := b.ReadFile(ctx, "/d/empty"); err != nil || len(got) != 0 {
		t.Errorf("empty: %q %v", got, err)
	}
	for what, class := range map[string]error{"/none": bandsox.ErrNotFound, "/d": bandsox.ErrInvalid, "/d/small/x": bandsox.ErrInvalid, "": bandsox.ErrInvalid, "/a\x00b": bandsox.ErrInvalid} {
		_, near := b.ReadFile(ctx, what)
		is(t, fmt.Sprintf("read %q", what), near, class)
	}
	ok(t, "another in its place", b.WriteFile(ctx, "/d/f", []byte("new"), 0))
	_, err = f.ReadAt(p, 0)
	is(t, "of another file", err, bandsox.ErrConflict)

	ok(t, "stop", b.Stop(ctx, time.Second))
	if got, err := b.ReadFile(ctx, "/d/small"); err != nil || string(got) != "small" {
		t.Errorf("stopped: %q %v", got, err)
	}
	if list, err := b.ReadDir(ctx, "/d"); err != nil || len(list) != 3 {
		t.Errorf("stopped: %v %v", list, err)
	}
	is(t, "write when stopped", b.WriteFile(ctx, "/d/x", []byte("x"), 0), bandsox.ErrConflict)
}

func filesWrite(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	read := func(want string) {
		t.Helper()
		if got, err := b.ReadFile(ctx, "/d/f"); err != nil || string(got) != want {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
	}
	w, err := b.Create(ctx, "/d/f")
	ok(t, "create", err)
	_, err = io.WriteString(w, "one ")
	ok(t, "write", err)
	_, err = io.WriteString(w, "two")
	ok(t, "write", err)
	ok(t, "close", w.Close())
	read("one two")
	_, err = w.Write([]byte("x"))
	is(t, "write after close", err, bandsox.ErrInvalid)
	w, err = b.Create(ctx, "/d/f")
	ok(t, "create", err)
	_, _ = io.WriteString(w, "gone")
	w.Abort()
	read("one two")
	ok(t, "append", b.AppendFile(ctx, "/d/f", []byte(" three")))
	read("one two three")
	broke := errors.New("the source broke")
	for _, r := range []io.Reader{
		io.MultiReader(bytes.NewReader(data(2<<20)), iotest.ErrReader(broke)), iotest.ErrReader(broke),
	} {
		if _, err := b.WriteFrom(ctx, "/d/f", r, 0); !errors.Is(err, broke) {
			t.Errorf("a source that fails: %v", err)
		}
	}
	read("one two three")
	_, err = b.Write(ctx, "/d/f", bytes.NewReader([]byte("x")), bandsox.WriteOptions{New: true})
	is(t, "new where there is one", err, bandsox.ErrConflict)
	read("one two three")
	n, err := b.Write(ctx, "/d/g", iotest.OneByteReader(bytes.NewReader([]byte("12345"))), bandsox.WriteOptions{New: true, Perm: 0o640})
	if st, serr := b.Stat(ctx, "/d/g"); err != nil || n != 5 || serr != nil || st.Size != 5 || st.Mode != 0o640 {
		t.Errorf("new: %d %v %+v %v", n, err, st, serr)
	}
	_, err = b.Write(ctx, "/d/g", bytes.NewReader(nil), bandsox.WriteOptions{Owner: "no-such-user"})
	if err == nil {
		t.Error("nobody's file was written")
	}
	for path, class := range map[string]error{"/d": bandsox.ErrInvalid, "/d/f/x": bandsox.ErrInvalid, "": bandsox.ErrInvalid, "/new/": bandsox.ErrInvalid} {
		is(t, fmt.Sprintf("write %q", path), b.WriteFile(ctx, path, data(1<<20), 0), class)
	}

	// Two writers: one of them wins, whole.
	var wg sync.WaitGroup
	one, two := bytes.Repeat([]byte("1"), 1<<20), bytes.Repeat([]byte("2"), 1<<20)
	for _, content := range [][]byte{one, two} {
		wg.Go(func() {
			if err := b.WriteFile(ctx, "/both", content, 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := b.ReadFile(ctx, "/both"); err != nil || !bytes.Equal(got, one) && !bytes.Equal(got, two) {
		t.Errorf("neither's: %d bytes, %v", len(got), err)
	}
}

func filesTransfer(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	dir := t.TempDir()
	local, back := filepath.Join(dir, "f"), filepath.Join(dir, "back")
	size := 100 << 20
	if testing.Short() {
		size = 10 << 20
	}
	content := data(size)
	if err := os.WriteFile(local, content, 0o750); err != nil {
		t.Fatal(err)
	}
	broken, cancel := context.WithCancel(ctx)
	_, err := b.Upload(broken, local, "/up/f", bandsox.TransferOptions{Resume: true, Progress: func(done, _ int64) {
		if done > int64(size)/2 {
			cancel()
		}
	}})
	if err == nil {
		t.Error("a broken upload succeeded")
	}
	_, err = b.Stat(ctx, "/up/f")
	is(t, "the file of a broken upload", err, bandsox.ErrNotFound)
	up, err := b.Upload(ctx, local, "/up/f", bandsox.TransferOptions{Resume: true, Sum: true})
	if err != nil || up.Resumed == 0 || up.Bytes != int64(size) || up.SHA256 != sum(content) {
		t.Errorf("upload: %+v %v", up, err)
	}
	if got, err := b.Sum(ctx, "/up/f"); err != nil || got != sum(content) {
		t.Errorf("it has come as %s %v", got, err)
	}
	broken, cancel = context.WithCancel(ctx)
	_, err = b.Download(broken, "/up/f", back, bandsox.TransferOptions{Resume: true, Progress: func(done, _ int64) {
		if done > int64(size)/2 {
			cancel()
		}
	}})
	if _, serr := os.Stat(back); err == nil || serr == nil {
		t.Errorf("a broken download: %v %v", err, serr)
	}
	down, err := b.Download(ctx, "/up/f", back, bandsox.TransferOptions{Resume: true, Sum: true})
	if err != nil || down.Resumed == 0 || down.Bytes != int64(size) || down.SHA256 != sum(content) {
		t.Errorf("download: %+v %v", down, err)
	}
	got, err := os.ReadFile(back)
	fi, serr := os.Stat(back)
	if err != nil || serr != nil || !bytes.Equal(got, content) || fi.Mode() != 0o750 {
		t.Errorf("%d bytes came back, or others, %v (%v)", len(got), fi, err)
	}
	_, err = b.Download(ctx, "/none", back, bandsox.TransferOptions{})
	is(t, "download of nothing", err, bandsox.ErrNotFound)
	_, err = b.Upload(ctx, dir, "/x", bandsox.TransferOptions{})
	is(t, "upload of a directory", err, bandsox.ErrInvalid)
}

func filesTrees(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	files := fstest.MapFS{"a/b": {Data: []byte("b"), Mode: 0o644}, "c": {Data: []byte("see"), Mode: 0o755}, "ro": {Mode: fs.ModeDir | 0o555}, "ro/x": {Data: []byte("x"), Mode: 0o400}}
	ok(t, "copy", b.CopyTo(ctx, files, "/tree", bandsox.CopyOptions{}))
	ok(t, "link", b.Symlink(ctx, "../../etc/passwd", "/tree/a/out"))
	local := filepath.Join(t.TempDir(), "new")
	ok(t, "copy back", b.CopyFrom(ctx, "/tree", local, bandsox.CopyOptions{}))
	for name, want := range map[string]string{"a/b": "b", "c": "see", "ro/x": "x"} {
		if got, err := os.ReadFile(filepath.Join(local, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if fi, err := os.Stat(filepath.Join(local, "ro")); err != nil || fi.Mode().Perm() != 0o555 {
		t.Errorf("ro: %v %v", fi, err)
	}
	ok(t, "tidy", os.Chmod(filepath.Join(local, "ro"), 0o755))
	if to, err := os.Readlink(filepath.Join(local, "a/out")); err != nil || to != "../../etc/passwd" {
		t.Errorf("link: %q %v", to, err)
	}
	var archive bytes.Buffer
	ok(t, "tar", b.Tar(ctx, "/tree", &archive, bandsox.CopyOptions{Name: "top"}))
	var names []string
	for r := tar.NewReader(bytes.NewReader(archive.Bytes())); ; {
		hd, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, hd.Name)
	}
	if !slices.Contains(names, "top/a/b") || !slices.Contains(names, "top/ro/") {
		t.Errorf("the archive has %q", names)
	}
	n, err := b.Untar(ctx, &archive, "/again", bandsox.CopyOptions{})
	if err != nil || n != 5 {
		t.Errorf("untar: %d %v", n, err)
	}
	if got, err := b.ReadFile(ctx, "/again/top/c"); err != nil || string(got) != "see" {
		t.Errorf("untar: %q %v", got, err)
	}
	is(t, "a file as a tree", b.CopyFrom(ctx, "/tree/c", local, bandsox.CopyOptions{}), bandsox.ErrInvalid)
	is(t, "no tree", b.CopyFrom(ctx, "/none", local, bandsox.CopyOptions{}), bandsox.ErrNotFound)
	is(t, "more bytes", b.CopyFrom(ctx, "/tree", local, bandsox.CopyOptions{MaxBytes: 3}), bandsox.ErrExhausted)
	is(t, "more files", b.Tar(ctx, "/tree", io.Discard, bandsox.CopyOptions{MaxEntries: 2}), bandsox.ErrExhausted)
	_, err = b.Untar(ctx, bytes.NewReader(bytes.Repeat([]byte("no tar"), 1000)), "/bad", bandsox.CopyOptions{})
	is(t, "no archive", err, bandsox.ErrInvalid)
	var evil bytes.Buffer
	tw := tar.NewWriter(&evil)
	ok(t, "header", tw.WriteHeader(&tar.Header{Name: "../../evil", Mode: 0o644}))
	ok(t, "archive", tw.Close())
	_, err = b.Untar(ctx, &evil, "/bad", bandsox.CopyOptions{})
	is(t, "a name that leads out", err, bandsox.ErrInvalid)
}

func filesNames(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	for _, name := range oddNames {
		path := "/odd/" + name
		ok(t, "write "+name, b.WriteFile(ctx, path, []byte(name), 0))
		if got, err := b.ReadFile(ctx, path); err != nil || string(got) != name {
			t.Errorf("%q: %q %v", name, got, err)
		}
		if st, err := b.Stat(ctx, path); err != nil || st.Path != path {
			t.Errorf("%q: %+v %v", name, st, err)
		}
		ok(t, "rename", b.Rename(ctx, path, path+".to", bandsox.RenameOptions{}))
		ok(t, "rename", b.Rename(ctx, path+".to", path, bandsox.RenameOptions{}))
	}
	list, err := b.ReadDir(ctx, "/odd")
	var got []string
	for _, st := range list {
		got = append(got, filepath.Base(st.Path))
	}
	want := slices.Sorted(slices.Values(oddNames))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listed: %q %v, want %q", got, err, want)
	}
	paths, err := b.Glob(ctx, "/odd/*")
	if err != nil || len(paths) != len(oddNames) {
		t.Errorf("glob: %q %v", paths, err)
	}
	for m, err := range b.Search(ctx, bandsox.SearchOptions{Path: "/odd", Text: "utf8"}) {
		if err != nil || m.Path != "/odd/not\xffutf8\x80" || m.Text != "not\xffutf8\x80" {
			t.Errorf("search: %+v %v", m, err)
		}
	}
	local := t.TempDir()
	ok(t, "copy", b.CopyFrom(ctx, "/odd", local, bandsox.CopyOptions{}))
	for _, name := range oddNames {
		if got, err := os.ReadFile(filepath.Join(local, name)); err != nil || string(got) != name {
			t.Errorf("copied %q: %q %v", name, got, err)
		}
	}
}

func filesLook(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	for name, content := range map[string]string{"/w/b.py": "x = 1\ny = 2\n", "/w/a/c.py": "import x\n", "/w/.venv/lib.py": "x", "/w/z.txt": "one\ntwo\nthree"} {
		ok(t, "write", b.WriteFile(ctx, name, []byte(content), 0))
	}
	var got []string
	for st, err := range b.Walk(ctx, "/w", bandsox.WalkOptions{SkipHidden: true, Include: []string{"*.py"}}) {
		ok(t, "walk", err)
		got = append(got, st.Path)
	}
	if !slices.Equal(got, []string{"/w/a/c.py", "/w/b.py"}) {
		t.Errorf("walk: %q", got)
	}
	for range b.Walk(ctx, "/", bandsox.WalkOptions{}) {
		break // whoever leaves early leaves nothing behind
	}
	if paths, err := b.Glob(ctx, "/w/**/*.py"); err != nil || !slices.Equal(paths, []string{"/w/a/c.py", "/w/b.py"}) {
		t.Errorf("glob: %q %v", paths, err)
	}
	if paths, err := b.Glob(ctx, "/none/*"); err != nil || len(paths) != 0 {
		t.Errorf("glob: %q %v", paths, err)
	}
	lines, err := b.Lines(ctx, "/w/z.txt", 1, 1)
	if err != nil || lines.Total != 3 || len(lines.Lines) != 1 || lines.Lines[0].Text != "two" || lines.Lines[0].Number != 2 {
		t.Errorf("lines: %+v %v", lines, err)
	}
	got = nil
	for m, err := range b.Search(ctx, bandsox.SearchOptions{Path: "/w", Regexp: `^(x|y) =`, After: 1}) {
		ok(t, "search", err)
		got = append(got, fmt.Sprint(m.Path, m.Line, m.Text, m.After))
	}
	if want := []string{"/w/b.py1x = 1[y = 2]", "/w/b.py2y = 2[]"}; !slices.Equal(got, want) {
		t.Errorf("search: %q, want %q", got, want)
	}
	for path, want := range map[string]bool{"/w": true, "/none": false, "/w/z.txt": true} {
		if found, err := b.Exists(ctx, path); err != nil || found != want {
			t.Errorf("%s: %v %v", path, found, err)
		}
	}
	_, err = b.ReadDir(ctx, "/none")
	is(t, "list nothing", err, bandsox.ErrNotFound)
	_, err = b.ReadDir(ctx, "/w/z.txt")
	is(t, "list a file", err, bandsox.ErrInvalid)
	_, err = b.Lines(ctx, "/w", 0, 0)
	is(t, "lines of a directory", err, bandsox.ErrInvalid)
	_, err = b.Lines(ctx, "/w/z.txt", -1, 0)
	is(t, "lines before the first", err, bandsox.ErrInvalid)
	for what, seq := range map[string]iter.Seq2[bandsox.Match, error]{
		"nothing": b.Search(ctx, bandsox.SearchOptions{Path: "/w"}), "a bad expression": b.Search(ctx, bandsox.SearchOptions{Path: "/w", Regexp: "("}),
	} {
		for _, err := range seq {
			is(t, "search for "+what, err, bandsox.ErrInvalid)
		}
	}
	for _, err := range b.Walk(ctx, "/none", bandsox.WalkOptions{}) {
		is(t, "walk nothing", err, bandsox.ErrNotFound)
	}
}

func filesChange(t *testing.T, h House) {
	ctx, b := t.Context(), box(t, h, bandsox.CreateOptions{})
	ok(t, "mkdir", b.Mkdir(ctx, "/p/q", bandsox.MkdirOptions{Parents: true, Mode: 0o700}))
	is(t, "mkdir again", b.Mkdir(ctx, "/p/q", bandsox.MkdirOptions{}), bandsox.ErrConflict)
	is(t, "mkdir nowhere", b.Mkdir(ctx, "/no/q", bandsox.MkdirOptions{}), bandsox.ErrNotFound)
	ok(t, "write", b.WriteFile(ctx, "/p/q/f", []byte("a b a"), 0))
	ok(t, "chmod", b.Chmod(ctx, "/p/q/f", 0o4755, bandsox.ChmodOptions{}))
	if st, err := b.Stat(ctx, "/p/q/f"); err != nil || st.Mode != 0o4755 {
		t.Errorf("chmod: %o %v", st.Mode, err)
	}
	n, err := b.Replace(ctx, "/p/q/f", "a", "\xff", bandsox.ReplaceOptions{})
	if got, rerr := b.ReadFile(ctx, "/p/q/f"); err != nil || n != 2 || rerr != nil || string(got) != "\xff b \xff" {
		t.Errorf("replace: %d %v %q", n, err, got)
	}
	_, err = b.Replace(ctx, "/p/q/f", "none", "x", bandsox.ReplaceOptions{})
	is(t, "replace what isn't there", err, bandsox.ErrNotFound)
	ok(t, "symlink", b.Symlink(ctx, "f", "/p/q/l"))
	if st, err := b.Stat(ctx, "/p/q/l"); err != nil || st.Type != "symlink" || st.Target != "f" {
		t.Errorf("symlink: %+v %v", st, err)
	}
	is(t, "symlink again", b.Symlink(ctx, "f", "/p/q/l"), bandsox.ErrConflict)
	is(t, "rename onto", b.Rename(ctx, "/p/q/f", "/p/q/l", bandsox.RenameOptions{}), bandsox.ErrConflict)
	ok(t, "rename over", b.Rename(ctx, "/p/q/f", "/p/q/l", bandsox.RenameOptions{Overwrite: true}))
	is(t, "chown to nobody", b.Chown(ctx, "/p/q/l", "", bandsox.ChownOptions{}), bandsox.ErrInvalid)
	is(t, "remove what is full", b.Remove(ctx, "/p", bandsox.RemoveOptions{}), bandsox.ErrConflict)
	is(t, "remove the root", b.Remove(ctx, "/", bandsox.RemoveOptions{Recursive: true}), bandsox.ErrDenied)
	ok(t, "remove", b.Remove(ctx, "/p", bandsox.RemoveOptions{Recursive: true}))
	is(t, "remove again", b.Remove(ctx, "/p", bandsox.RemoveOptions{}), bandsox.ErrNotFound)

	// What happens after Watch has returned is told.
	ok(t, "mkdir", b.Mkdir(ctx, "/watched", bandsox.MkdirOptions{}))
	seq := b.Watch(ctx, "/watched", bandsox.WatchOptions{})
	ok(t, "write", b.WriteFile(ctx, "/watched/new", []byte("x"), 0))
	for e, err := range seq {
		ok(t, "watch", err)
		if e.Path == "/watched/new" {
			break
		}
	}
	for _, err := range b.Watch(ctx, "/none", bandsox.WatchOptions{}) {
		is(t, "watch nothing", err, bandsox.ErrNotFound)
	}
}
