package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

// tree makes files (or directories, names that end in /) below the root.
func (s *service) tree(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		full := filepath.Join(s.root, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch from, to, link := strings.Cut(name, " -> "); {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		case link:
			err = os.Symlink(to, filepath.Join(s.root, from))
		default:
			err = os.WriteFile(full, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s *service) find(t *testing.T, r wire.FindRequest) (paths []string) {
	t.Helper()
	for st, err := range s.client.Find(context2(t), r) {
		if err != nil {
			t.Fatalf("%+v: %s %v", r, st.Path, err)
		}
		paths = append(paths, st.Path)
	}
	return paths
}

func (s *service) change(t *testing.T, op wire.Op, r wire.ChangeRequest) int64 {
	t.Helper()
	n, err := s.client.Change(context2(t), op, r)
	if err != nil {
		t.Fatalf("%s %+v: %v", op, r, err)
	}
	return n
}

func TestFind(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.tree(t, "d/a.go", "d/b.txt", "d/.git/x.go", "d/sub/c.go", "d/sub/deep/e.go", "d/link -> sub", "to -> d", "d/loop -> ..")
	for _, c := range []struct {
		r    wire.FindRequest
		want string
	}{
		{wire.FindRequest{Path: "d"}, "/d /d/.git /d/.git/x.go /d/a.go /d/b.txt /d/link /d/loop /d/sub /d/sub/c.go /d/sub/deep /d/sub/deep/e.go"},
		{wire.FindRequest{Path: "/d/", Depth: 1}, "/d /d/.git /d/a.go /d/b.txt /d/link /d/loop /d/sub"},
		{wire.FindRequest{Path: "to", Depth: 1}, "/to /to/.git /to/a.go /to/b.txt /to/link /to/loop /to/sub"},
		{wire.FindRequest{Path: "d", SkipHidden: true, Type: "file"}, "/d/a.go /d/b.txt /d/sub/c.go /d/sub/deep/e.go"},
		{wire.FindRequest{Path: "d", Type: "symlink"}, "/d/link /d/loop"},
		{wire.FindRequest{Path: "d", Include: []wire.Text{"*.go"}, Exclude: []wire.Text{"deep", ".*"}}, "/d/a.go /d/sub/c.go"},
		{wire.FindRequest{Path: "d/a.go"}, "/d/a.go"},
		{wire.FindRequest{Path: "d/link", Depth: 1}, "/d/link /d/link/c.go /d/link/deep"},
		{wire.FindRequest{Path: "d/a.go", Include: []wire.Text{"*.txt"}}, ""},
		{wire.FindRequest{Path: "d", Glob: true, Include: []wire.Text{"*.go"}}, "/d/a.go"},
		{wire.FindRequest{Path: "d", Glob: true, Include: []wire.Text{"**/*.go"}}, "/d/a.go /d/sub/c.go /d/sub/deep/e.go"},
		{wire.FindRequest{Path: "d", Glob: true, Include: []wire.Text{"**/.git/**/*.go"}}, "/d/.git/x.go"},
		{wire.FindRequest{Path: "", Glob: true, Include: []wire.Text{"**/sub/**"}}, "/d/sub /d/sub/c.go /d/sub/deep /d/sub/deep/e.go"},
		{wire.FindRequest{Path: "d", Glob: true, Include: []wire.Text{"s*/?.[a-g]o"}}, "/d/sub/c.go"},
	} {
		if got := strings.Join(s.find(t, c.r), " "); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.r, got, c.want)
		}
	}
	for r, code := range map[*wire.FindRequest]wire.Code{
		{Path: "none"}:                                  wire.NotFound,
		{Path: "d", Include: []wire.Text{"[x"}}:         wire.Invalid,
		{Path: "d", Exclude: []wire.Text{"a//b"}}:       wire.Invalid,
		{Path: "d/a.go/x"}:                              wire.Invalid,
		{Path: wire.Text(strings.Repeat("n", 300))}:     wire.Invalid,
		{Path: wire.Text(strings.Repeat("long/", 999))}: wire.Invalid,
	} {
		for _, err := range s.client.Find(context2(t), *r) {
			wantCode(t, err, code, "")
		}
	}
}

// TestNames: a name is bytes, up to 255 of them.
func TestNames(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	names := []string{
		strings.Repeat("x", 255), "new\nline", "tab\t", " ", "-rf", "*", "\\", `"`, "\xff\xfe", "a\x80z", "ü", "\xed\xb2\x80", "{}", "\x1b[2J", "~",
	}
	slices.Sort(names)
	var want []string
	for _, n := range names {
		if err := os.WriteFile(s.root+"/"+n, []byte(n+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, "/"+n)
	}
	got := s.find(t, wire.FindRequest{Path: "/", Type: "file"})
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	s.change(t, wire.OpMkdir, wire.ChangeRequest{Path: "\xffdir"})
	for i, n := range got {
		st, err := s.client.Stat(context2(t), n)
		if err != nil || st.Path != n || st.Size != int64(len(names[i])+1) {
			t.Errorf("%q: %+v %v", n, st, err)
		}
		s.change(t, wire.OpRename, wire.ChangeRequest{Path: wire.Text(n), To: wire.Text("/\xffdir" + n)})
		s.change(t, wire.OpSymlink, wire.ChangeRequest{Path: wire.Text(n), To: wire.Text("\xffdir" + n)})
		if st, err := s.client.Stat(context2(t), n); err != nil || st.Target != "\xffdir"+n {
			t.Errorf("%q: %+v %v", n, st, err)
		}
	}
	s.change(t, wire.OpRemove, wire.ChangeRequest{Path: "\xffdir", Recursive: true})
	if got := s.find(t, wire.FindRequest{Path: "/", Type: "dir"}); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
}

func TestManyEntries(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	n := size(8000)
	os.Mkdir(s.root+"/d", 0o755)
	pad := strings.Repeat("p", 240)
	for i := range n {
		name := fmt.Sprintf("%s/d/%05d", s.root, i)
		if i%2 == 0 {
			name += pad
		}
		if f, err := os.Create(name); err != nil {
			t.Fatal(err)
		} else {
			f.Close()
		}
	}
	got := s.find(t, wire.FindRequest{Path: "d", Depth: 1})
	if len(got) != n+1 || !slices.IsSorted(got) {
		t.Errorf("%d entries, sorted %v", len(got), slices.IsSorted(got))
	}
	// Leaving early ends the guest's work: its goroutines are checked at the end.
	for range s.client.Find(context2(t), wire.FindRequest{Path: "d"}) {
		break
	}
	ctx, cancel := context.WithCancel(context2(t))
	defer cancel()
	var last error
	for _, last = range s.client.Find(ctx, wire.FindRequest{Path: "d"}) {
		cancel()
	}
	wantCode(t, last, wire.Unavailable, "cancel")
}

// TestWalkWhileItGoes: what is deleted meanwhile was not there.
func TestWalkWhileItGoes(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			dir := fmt.Sprintf("%s/d%d", s.root, i%5)
			os.MkdirAll(dir+"/a/b/c", 0o755)
			os.WriteFile(dir+"/a/f", []byte("text\n"), 0o644)
			os.RemoveAll(dir)
			os.Symlink("/", dir)
			os.Remove(dir)
		}
	}()
	for range size(300) {
		s.find(t, wire.FindRequest{Path: "/"})
		for m, err := range s.client.Search(context2(t), wire.SearchRequest{Find: wire.FindRequest{Path: "/"}, Text: "text"}) {
			if err != nil {
				t.Fatal(m.Path, err)
			}
		}
	}
	close(stop)
	<-stopped
}

func TestUnreadableDirectory(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.tree(t, "d/a", "d/z")
	deep := s.root + "/d"
	// Deeper than a path may be long.
	dir, err := os.Open(deep)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 255)
	for range 20 {
		if err := syscall.Mkdirat(int(dir.Fd()), name, 0o755); err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Openat(int(dir.Fd()), name, syscall.O_DIRECTORY, 0)
		dir.Close()
		if err != nil {
			t.Fatal(err)
		}
		dir = os.NewFile(uintptr(fd), name)
	}
	dir.Close()
	var seen []string
	failures := 0
	for st, err := range s.client.Find(context2(t), wire.FindRequest{Path: "d"}) {
		if err != nil {
			failures++
			wantCode(t, err, wire.Invalid, "file name too long")
		}
		seen = append(seen, st.Path)
	}
	if failures != 1 || seen[len(seen)-1] != "/d/z" || len(seen) != 2+16+1+1 {
		t.Errorf("%d failures, %d seen, the last is %.100q", failures, len(seen), seen[len(seen)-1])
	}
	s.change(t, wire.OpRemove, wire.ChangeRequest{Path: "d", Recursive: true})
}

func TestLines(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	long := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB
	os.WriteFile(s.root+"/f", []byte("one\n\n"+long+"\nfo\xffur\nlast"), 0o644)
	os.WriteFile(s.root+"/empty", nil, 0o644)
	os.WriteFile(s.root+"/many", []byte(strings.Repeat("x\n", 100_000)), 0o644)
	all := []wire.Line{{Number: 1, Text: "one"}, {Number: 2}, {Number: 3, Text: long[:wire.MaxLine], Cut: true}, {Number: 4, Text: "fo\xffur"}, {Number: 5, Text: "last"}}
	for _, c := range []struct {
		path          wire.Text
		offset, limit int64
		want          []wire.Line
		total         int64
	}{
		{"f", 0, 0, all, 5},
		{"f", 2, 2, all[2:4], 5},
		{"f", 3, 1, all[3:4], 5},
		{"f", 4, 99, all[4:], 5},
		{"f", 5, 1, nil, 5},
		{"f", 1 << 60, 1 << 60, nil, 5},
		{"empty", 0, 0, nil, 0},
		{"many", 60_000, 2, []wire.Line{{Number: 60_001, Text: "x"}, {Number: 60_002, Text: "x"}}, 100_000},
	} {
		got, total, err := s.client.Lines(context2(t), wire.LinesRequest{Path: c.path, Offset: c.offset, Limit: c.limit})
		if d := cmp.Diff(c.want, got); err != nil || total != c.total || d != "" {
			t.Errorf("%s %d+%d: total %d, %v %.500s", c.path, c.offset, c.limit, total, err, d)
		}
	}
	for path, code := range map[wire.Text]wire.Code{"none": wire.NotFound, "/": wire.Invalid} {
		_, _, err := s.client.Lines(context2(t), wire.LinesRequest{Path: path})
		wantCode(t, err, code, "")
	}
	_, _, err := s.client.Lines(context2(t), wire.LinesRequest{Path: "f", Offset: -1})
	wantCode(t, err, wire.Invalid, "negative")
}

func (s *service) search(t *testing.T, r wire.SearchRequest) (found []wire.Match) {
	t.Helper()
	for m, err := range s.client.Search(context2(t), r) {
		if err != nil {
			t.Fatalf("%+v: %s %v", r, m.Path, err)
		}
		found = append(found, m)
	}
	return found
}

func TestSearch(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.tree(t, "proc/", "src/link -> a.go", "src/dirlink -> ../src")
	os.WriteFile(s.root+"/proc/x", []byte("needle\n"), 0o644)
	os.WriteFile(s.root+"/src/a.go", []byte("1\n2 needle\n3\n4 Needle needle\n5\n6"), 0o644)
	os.WriteFile(s.root+"/src/bin", []byte("needle\x00needle\n"), 0o644)
	os.WriteFile(s.root+"/src/z", []byte("needle"), 0o644)
	syscall.Mkfifo(s.root+"/src/fifo", 0o644)

	a2, a4, z := wire.Match{Path: "/src/a.go", Line: 2, Text: "2 needle"}, wire.Match{Path: "/src/a.go", Line: 4, Text: "4 Needle needle"}, wire.Match{Path: "/src/z", Line: 1, Text: "needle"}
	around := func(m wire.Match, before, after []string) wire.Match {
		m.Before, m.After = before, after
		return m
	}
	find := wire.FindRequest{Path: "/"}
	for _, c := range []struct {
		r    wire.SearchRequest
		want []wire.Match
	}{
		{wire.SearchRequest{Find: find, Text: "needle"}, []wire.Match{a2, a4, z}},
		{wire.SearchRequest{Find: find, Text: "Needle"}, []wire.Match{a4}},
		{wire.SearchRequest{Find: find, Text: "nEEDle", Fold: true}, []wire.Match{a2, a4, z}},
		{wire.SearchRequest{Find: wire.FindRequest{Path: "/", Include: []wire.Text{"*.go"}}, Text: "needle"}, []wire.Match{a2, a4}},
		{wire.SearchRequest{Find: wire.FindRequest{Path: "src/link"}, Text: "Needle"}, []wire.Match{{Path: "/src/link", Line: 4, Text: a4.Text}}},
		{wire.SearchRequest{Find: find, Text: "needle", Before: 2, After: 2}, []wire.Match{
			around(a2, []string{"1"}, []string{"3", a4.Text}), around(a4, []string{a2.Text, "3"}, []string{"5", "6"}), z}},
		{wire.SearchRequest{Find: find, Text: "needle", After: 1}, []wire.Match{around(a2, nil, []string{"3"}), around(a4, nil, []string{"5"}), z}},
		{wire.SearchRequest{Find: find, Text: "6"}, []wire.Match{{Path: "/src/a.go", Line: 6, Text: "6"}}},
		{wire.SearchRequest{Find: find, Text: "nothing"}, nil},
		{wire.SearchRequest{Find: wire.FindRequest{Path: "proc"}, Text: "needle"}, []wire.Match{{Path: "/proc/x", Line: 1, Text: "needle"}}},
	} {
		if d := cmp.Diff(c.want, s.search(t, c.r)); d != "" {
			t.Errorf("%+v: %s", c.r, d)
		}
	}
	if got := s.search(t, wire.SearchRequest{Find: find}); len(got) != 7 {
		t.Errorf("every line: %d", len(got))
	}
	for _, err := range s.client.Search(context2(t), wire.SearchRequest{Find: find, Text: "a\nb"}) {
		wantCode(t, err, wire.Invalid, "newlines")
	}
}

// TestSearchLongLines finds a text wherever it lies to the buffer's edges.
func TestSearchLongLines(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	for _, at := range []int{0, 1000, 60_000, wire.MaxData - 7, wire.MaxData - 6, wire.MaxData - 1, wire.MaxData, 2*wire.MaxData - 10, 200_000} {
		line := strings.Repeat("x", at) + "needle" + strings.Repeat("x", 300_000-at)
		os.WriteFile(s.root+"/f", []byte("first\n"+line+"\nneedle\n"), 0o644)
		got := s.search(t, wire.SearchRequest{Find: wire.FindRequest{Path: "f"}, Text: "needle"})
		if len(got) != 2 || got[0].Line != 2 || !got[0].Cut || got[1].Line != 3 || got[1].Text != "needle" {
			t.Fatalf("at %d: %d matches", at, len(got))
		}
		if i := strings.Index(got[0].Text, "needle"); i < 0 || got[0].Start+int64(i) != int64(at) {
			t.Errorf("at %d: found at %d+%d", at, got[0].Start, i)
		}
	}
}

func TestChange(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.tree(t, "f", "d/x", "full/x", "dangling -> nowhere", "to -> d")
	refused := func(code wire.Code, text string, op wire.Op, r wire.ChangeRequest) {
		t.Helper()
		_, err := s.client.Change(context2(t), op, r)
		wantCode(t, err, code, text)
	}
	s.change(t, wire.OpMkdir, wire.ChangeRequest{Path: "new", Mode: 0o1777})
	if st, _ := s.client.Stat(context2(t), "new"); st.Mode != 0o1777 || st.Type != "dir" {
		t.Errorf("%+v", st)
	}
	refused(wire.Conflict, `"new": file exists`, wire.OpMkdir, wire.ChangeRequest{Path: "new"})
	refused(wire.Conflict, "exists", wire.OpMkdir, wire.ChangeRequest{Path: "f", Parents: true})
	refused(wire.NotFound, `"a/b/c"`, wire.OpMkdir, wire.ChangeRequest{Path: "a/b/c"})
	s.change(t, wire.OpMkdir, wire.ChangeRequest{Path: "a/b/c", Parents: true})
	s.change(t, wire.OpMkdir, wire.ChangeRequest{Path: "a/b/c", Parents: true})
	s.change(t, wire.OpMkdir, wire.ChangeRequest{Path: "/", Parents: true})

	refused(wire.NotFound, `"none"`, wire.OpRename, wire.ChangeRequest{Path: "none", To: "x"})
	refused(wire.NotFound, `"no/x"`, wire.OpRename, wire.ChangeRequest{Path: "f", To: "no/x"})
	refused(wire.Conflict, `"d": file exists`, wire.OpRename, wire.ChangeRequest{Path: "new", To: "d"})
	refused(wire.Conflict, "exists", wire.OpRename, wire.ChangeRequest{Path: "f", To: "dangling"})
	refused(wire.Invalid, "no path", wire.OpRename, wire.ChangeRequest{Path: "f"})
	refused(wire.Conflict, "not empty", wire.OpRename, wire.ChangeRequest{Path: "d", To: "full", Overwrite: true})
	s.change(t, wire.OpRename, wire.ChangeRequest{Path: "f", To: "dangling", Overwrite: true})

	refused(wire.NotFound, `"none"`, wire.OpRemove, wire.ChangeRequest{Path: "none", Recursive: true})
	refused(wire.Conflict, "not empty", wire.OpRemove, wire.ChangeRequest{Path: "d"})
	for _, root := range []wire.Text{"/", "//", "/..", "d/..", "/.", "../../.."} {
		refused(wire.Denied, "the root", wire.OpRemove, wire.ChangeRequest{Path: root, Recursive: true})
	}
	refused(wire.Invalid, "no path", wire.OpRemove, wire.ChangeRequest{Recursive: true})
	refused(wire.Invalid, "no path", wire.OpRemove, wire.ChangeRequest{Path: "d\x00"})
	s.change(t, wire.OpRemove, wire.ChangeRequest{Path: "to", Recursive: true}) // the link, not what it leads to
	s.tree(t, "with/up -> ../d")
	s.change(t, wire.OpRemove, wire.ChangeRequest{Path: "with", Recursive: true})
	if got := s.find(t, wire.FindRequest{Path: "d"}); len(got) != 2 {
		t.Errorf("a symlink was followed: %v", got)
	}
	refused(wire.Conflict, "exists", wire.OpSymlink, wire.ChangeRequest{Path: "d", To: "x"})
	refused(wire.Invalid, "nothing", wire.OpSymlink, wire.ChangeRequest{Path: "l"})
	refused(wire.Invalid, "unknown", "eat", wire.ChangeRequest{Path: "l"})
}

func TestChmodChown(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.tree(t, "d/sub/x", "out", "d/link -> ../out", "to -> out", "etc/")
	s.change(t, wire.OpChmod, wire.ChangeRequest{Path: "to", Mode: 0o4711})
	s.change(t, wire.OpChmod, wire.ChangeRequest{Path: "d", Mode: 0o750, Recursive: true})
	for p, want := range map[string]uint32{"d": 0o750, "d/sub": 0o750, "d/sub/x": 0o750, "out": 0o4711} {
		if st, err := s.client.Stat(context2(t), p); err != nil || st.Mode != want {
			t.Errorf("%s: %o %v", p, st.Mode, err)
		}
	}
	_, err := s.client.Change(context2(t), wire.OpChmod, wire.ChangeRequest{Path: "none", Mode: 1})
	wantCode(t, err, wire.NotFound, `"none"`)
	_, err = s.client.Change(context2(t), wire.OpChown, wire.ChangeRequest{Path: "d", Owner: "nobody-here"})
	wantCode(t, err, wire.Invalid, "/etc/passwd")
	_, err = s.client.Change(context2(t), wire.OpChown, wire.ChangeRequest{Path: "d"})
	wantCode(t, err, wire.Invalid, "whom")
	if os.Geteuid() != 0 {
		t.Skip("needs root: to give files away")
	}
	os.WriteFile(s.root+"/etc/passwd", []byte("app:x:1234:5678::/:/bin/sh\n"), 0o644)
	os.WriteFile(s.root+"/etc/group", []byte("web:x:99:\n"), 0o644)
	owner := func(p string) string {
		st, err := s.client.Stat(context2(t), p)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d:%d", st.UID, st.GID)
	}
	for _, c := range []struct {
		r    wire.ChangeRequest
		path string
		want string
	}{
		{wire.ChangeRequest{Path: "out", Owner: "app"}, "out", "1234:0"},
		{wire.ChangeRequest{Path: "out", Owner: "app:"}, "out", "1234:5678"},
		{wire.ChangeRequest{Path: "out", Owner: ":web"}, "out", "1234:99"},
		{wire.ChangeRequest{Path: "to", Owner: "7:8"}, "out", "7:8"},
		{wire.ChangeRequest{Path: "to", Owner: "9:9", NoFollow: true}, "to", "9:9"},
		{wire.ChangeRequest{Path: "d", Owner: "app:web", Recursive: true}, "d/sub/x", "1234:99"},
		{wire.ChangeRequest{Path: "d", Owner: "app:web", Recursive: true}, "d/link", "1234:99"},
		{wire.ChangeRequest{Path: "to", Owner: "3:3", Recursive: true}, "to", "3:3"},
	} {
		s.change(t, wire.OpChown, c.r)
		if got := owner(c.path); got != c.want {
			t.Errorf("%+v: %s is %s, want %s", c.r, c.path, got, c.want)
		}
	}
	if got := owner("out"); got != "7:8" {
		t.Errorf("a symlink was followed: %s", got)
	}
	s.change(t, wire.OpMkdir, wire.ChangeRequest{Path: "p/q", Parents: true, Owner: "app:web"})
	if p, q := owner("p"), owner("p/q"); p != "1234:99" || q != p {
		t.Errorf("made: %s, %s", p, q)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system")
	}
	s := start(t, guest.ServeConfig{})
	ro := s.root + "/ro"
	os.Mkdir(ro, 0o755)
	if err := syscall.Mount("tmpfs", ro, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer syscall.Unmount(ro, syscall.MNT_DETACH)
	for op, r := range map[wire.Op]wire.ChangeRequest{
		wire.OpMkdir: {Path: "ro/x"}, wire.OpChmod: {Path: "ro", Mode: 0o700}, wire.OpSymlink: {Path: "ro/x", To: "y"}, wire.OpChown: {Path: "ro", Owner: "1"},
	} {
		_, err := s.client.Change(context2(t), op, r)
		wantCode(t, err, wire.Denied, "read-only file system")
	}
	s.tree(t, "f")
	_, err := s.client.Change(context2(t), wire.OpRename, wire.ChangeRequest{Path: "f", To: "ro/f"})
	if code := wire.CodeOf(err); code != wire.Denied && code != wire.Invalid {
		t.Errorf("across file systems: %v", err)
	}
	_, err = s.client.Change(context2(t), wire.OpRemove, wire.ChangeRequest{Path: "ro"})
	wantCode(t, err, wire.Conflict, "busy")
}

func TestReplace(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	file := s.root + "/f"
	for _, c := range []struct {
		was  string
		r    wire.ChangeRequest
		want string
		n    int64
	}{
		{"a b a b a", wire.ChangeRequest{Old: "a", New: "xyz"}, "xyz b xyz b xyz", 3},
		{"a b a b a", wire.ChangeRequest{Old: "a", New: "c", Limit: 2}, "c b c b a", 2},
		{"aaaa", wire.ChangeRequest{Old: "aa", New: ""}, "", 2},
		{"x\xffy", wire.ChangeRequest{Old: "\xff", New: "\xfe\n", Expect: 1}, "x\xfe\ny", 1},
		{strings.Repeat("-", 65_000) + "needle" + strings.Repeat("-", 65_000) + "needle", wire.ChangeRequest{Old: "needle", New: "pin"},
			strings.Repeat("-", 65_000) + "pin" + strings.Repeat("-", 65_000) + "pin", 2},
		{strings.Repeat("ab", 100_000), wire.ChangeRequest{Old: "ba", New: "-"}, "a" + strings.Repeat("-", 99_999) + "b", 99_999},
	} {
		os.WriteFile(file, []byte(c.was), 0o644)
		syscall.Chmod(file, 0o4751)
		c.r.Path = "f"
		n := s.change(t, wire.OpReplace, c.r)
		if b, _ := os.ReadFile(file); string(b) != c.want || n != c.n {
			t.Errorf("%+v: %d, %.60q", c.r, n, b)
		}
		if st, _ := s.client.Stat(context2(t), "f"); st.Mode != 0o4751 {
			t.Errorf("mode %o", st.Mode)
		}
	}
	os.WriteFile(file, []byte("a a"), 0o644)
	for _, c := range []struct {
		r    wire.ChangeRequest
		code wire.Code
		text string
	}{
		{wire.ChangeRequest{Path: "f", Old: "b"}, wire.NotFound, `"f": the text is not in it`},
		{wire.ChangeRequest{Path: "f", Old: "a", Expect: 1}, wire.Conflict, "2 times, not 1"},
		{wire.ChangeRequest{Path: "f"}, wire.Invalid, ""},
		{wire.ChangeRequest{Path: "none", Old: "a"}, wire.NotFound, `"none"`},
		{wire.ChangeRequest{Path: "/", Old: "a"}, wire.Invalid, "directory"},
	} {
		_, err := s.client.Change(context2(t), wire.OpReplace, c.r)
		wantCode(t, err, c.code, c.text)
	}
	if b, _ := os.ReadFile(file); string(b) != "a a" {
		t.Errorf("after refusals: %q", b)
	}
	s.onlyFile(t, "/", "f")
}

// events collects what a watch tells until it has told of the path last.
func events(t *testing.T, w *agent.Watch, last string) (got []string) {
	t.Helper()
	for {
		e, err := w.Next()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		if since := time.Since(e.Time); since > time.Hour || since < -time.Hour {
			t.Errorf("time %v", e.Time)
		}
		text := string(e.Op) + " " + e.Path
		if e.From != "" {
			text += " from " + e.From
		}
		got = append(got, text)
		if e.Path == last {
			return got
		}
	}
}

func watch(t *testing.T, s *service, r wire.WatchRequest) *agent.Watch {
	t.Helper()
	w, err := s.client.Watch(context2(t), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWatch(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.tree(t, "d/sub/", "d/f", "other/x", "other/dir/")
	flat, deep := watch(t, s, wire.WatchRequest{Path: "d"}), watch(t, s, wire.WatchRequest{Path: "d", Recursive: true})
	file := watch(t, s, wire.WatchRequest{Path: "d/f"})
	at := func(p string) string { return path.Join(s.root, p) }
	for _, err := range []error{
		os.WriteFile(at("d/new\xff"), []byte("x"), 0o644),
		os.Chmod(at("d/f"), 0o600),
		os.Rename(at("d/f"), at("d/g")),
		os.Rename(at("other/x"), at("d/in")),
		os.Rename(at("d/g"), at("other/out")),
		os.WriteFile(at("d/sub/y"), nil, 0o644),
		os.Rename(at("d/sub"), at("d/moved")),
		os.WriteFile(at("d/moved/z"), nil, 0o644),
		os.Rename(at("other/dir"), at("d/dir")),
		os.WriteFile(at("d/f"), nil, 0o644),
		os.Mkdir(at("d/end"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"created /d/new\xff", "modified /d/new\xff", "attrib /d/f", "renamed /d/g from /d/f", "created /d/in", "removed /d/g",
		"renamed /d/moved from /d/sub", "created /d/dir", "created /d/f", "created /d/end",
	}
	if d := cmp.Diff(want, events(t, flat, "/d/end")); d != "" {
		t.Errorf("flat: %s", d)
	}
	want = slices.Insert(want, 6, "created /d/sub/y")
	want = slices.Insert(want, 8, "created /d/moved/z")
	if d := cmp.Diff(want, events(t, deep, "/d/end")); d != "" {
		t.Errorf("recursive: %s", d)
	}
	var got []string
	for range 3 {
		e, err := file.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Op)+" "+e.Path)
	}
	if d := cmp.Diff([]string{"attrib /d/f", "removed /d/f", "created /d/f"}, got); d != "" {
		t.Errorf("file: %s", d)
	}
	os.RemoveAll(at("d"))
	if got := events(t, flat, "/d"); got[len(got)-1] != "removed /d" {
		t.Errorf("%v", got)
	}
	if _, err := flat.Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	_, err := s.client.Watch(context2(t), wire.WatchRequest{Path: "none"})
	wantCode(t, err, wire.NotFound, `"none"`)
}

// TestWatchNewDirectories: what is made in a directory before anyone can watch
// it is told nevertheless, and once.
func TestWatchNewDirectories(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	w := watch(t, s, wire.WatchRequest{Path: "/", Recursive: true})
	want := map[string]int{}
	for i := range size(500) {
		dir := fmt.Sprintf("/d%d", i)
		for _, sub := range []string{"", "/a", "/a/b"} {
			os.Mkdir(s.root+dir+sub, 0o755)
			os.WriteFile(s.root+dir+sub+"/f", nil, 0o644)
			want[dir+sub], want[dir+sub+"/f"] = 1, 1
		}
	}
	os.Mkdir(s.root+"/end", 0o755)
	got := map[string]int{}
	for _, e := range events(t, w, "/end") {
		if p, ok := strings.CutPrefix(e, "created "); ok && p != "/end" {
			got[p]++
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestWatchOverflow: who does not read is told that there was more.
func TestWatchOverflow(t *testing.T) {
	if testing.Short() {
		t.Skip("needs more events than the kernel keeps: left out of -short")
	}
	s := start(t, guest.ServeConfig{})
	w := watch(t, s, wire.WatchRequest{Path: "/"})
	name := s.root + "/" + strings.Repeat("n", 250)
	limit := 16384
	if b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events"); err == nil {
		fmt.Sscan(string(b), &limit)
	}
	for i := range limit/2 + 5000 { // three events each, and some are on their way
		if err := os.WriteFile(fmt.Sprint(name, i%7), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		os.Remove(fmt.Sprint(name, i%7))
	}
	for n := 0; ; n++ {
		e, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Op == wire.FileOverflow {
			if e.Path != "/" || n == 0 {
				t.Errorf("after %d: %+v", n, e)
			}
			return
		}
	}
}

func TestWatchEnds(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	ctx, cancel := context.WithCancel(context2(t))
	defer cancel()
	w, err := s.client.Watch(ctx, wire.WatchRequest{Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	go cancel()
	_, err = w.Next()
	wantCode(t, err, wire.Unavailable, "cancel")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
