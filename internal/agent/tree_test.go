package agent_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

// describe lists all there is to know of the files below dir, so that two trees
// can be compared.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		st := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if rel != "." {
			fmt.Fprintf(&b, " %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch fi.Mode().Type() {
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d bytes, sum %x", len(content), hashOf(content))
			if of, ok := first[st.Ino]; ok {
				fmt.Fprintf(&b, " = %s", of)
			} else {
				first[st.Ino] = rel
			}
		case fs.ModeSymlink:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", target)
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			fmt.Fprintf(&b, " device %d", st.Rdev)
		}
		if fi.IsDir() || fi.Mode().IsRegular() {
			value := make([]byte, 100)
			if n, err := unix.Getxattr(path, "user.bandsox", value); err == nil {
				fmt.Fprintf(&b, " user.bandsox=%s", value[:n])
			}
			for i := range longAttributes {
				if n, err := unix.Getxattr(path, longAttribute(i), value); err == nil {
					fmt.Fprintf(&b, " long%d=%s", i, value[:n])
				}
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// longAttributes is how many of longAttribute's names make a list that is longer
// than most: 1.6 KiB.
const longAttributes = 8

func longAttribute(i int) string { return fmt.Sprintf("user.%d.%s", i, strings.Repeat("x", 200)) }

func hashOf(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// makeTree makes one of everything.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/sub/deep/er", 0o755))
	must(os.MkdirAll(dir+"/empty", 0o755))
	must(os.WriteFile(dir+"/a", []byte("alpha"), 0o640))
	must(os.WriteFile(dir+"/nothing", nil, 0o600))
	must(os.WriteFile(dir+"/run me", []byte("#!/bin/sh\n"), 0o755))
	big := make([]byte, 300_000)
	(&noise{9}).Read(big)
	must(os.WriteFile(dir+"/sub/big", big, 0o644))
	must(os.Link(dir+"/sub/big", dir+"/sub/deep/same"))
	must(os.Symlink("../a", dir+"/sub/up"))
	must(os.Symlink("/etc/passwd", dir+"/abs"))
	must(os.Symlink("no/where", dir+"/dangling"))
	f, err := os.Create(dir + "/sparse")
	must(err)
	_, err = f.WriteAt([]byte("middle"), 5<<20)
	must(err)
	must(f.Truncate(12 << 20))
	must(f.Close())
	for i := range 300 {
		must(os.WriteFile(fmt.Sprintf("%s/sub/deep/er/%03d", dir, i), bytes.Repeat([]byte{byte(i)}, i*7), 0o644))
	}
	_ = unix.Setxattr(dir+"/a", "user.bandsox", []byte("value"), 0)
	for i := range longAttributes {
		_ = unix.Setxattr(dir+"/a", longAttribute(i), []byte("v"), 0)
	}
	_ = unix.Setxattr(dir+"/sub", "user.bandsox", []byte("dir"), 0)
	if os.Geteuid() == 0 {
		must(os.Lchown(dir+"/a", 1234, 5678))
		must(os.Lchown(dir+"/dangling", 1234, 5678))
		must(syscall.Mkfifo(dir+"/fifo", 0o600))
		if err := syscall.Mknod(dir+"/null", syscall.S_IFCHR|0o666, 0x103); err != nil {
			t.Logf("no devices here: %v", err)
		}
	}
	must(os.Chmod(dir+"/run me", 0o755|fs.ModeSetuid))
	old := time.Unix(1_000_000_000, 123_000_000)
	must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		ts := unix.NsecToTimespec(old.UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}))
	must(os.Chmod(dir+"/empty", 0o555)) // empty, so that anyone can remove it
	ts := unix.NsecToTimespec(old.UnixNano())
	must(unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/empty", []unix.Timespec{ts, ts}, 0))
}

func (s *service) copyIn(t *testing.T, src *agent.Source, dir string) error {
	t.Helper()
	_, err := s.client.WriteTree(context2(t), wire.TreeRequest{Path: dir}, src)
	return err
}

func (s *service) copyOut(t *testing.T, dir, local string, o agent.ExtractOptions) error {
	t.Helper()
	tree, err := s.client.ReadTree(context2(t), dir, false, agent.Limits{})
	if err != nil {
		return err
	}
	defer tree.Close()
	root, err := os.OpenRoot(local)
	if err != nil {
		return err
	}
	defer root.Close()
	return tree.Extract(root, o)
}

func TestTreeThereAndBack(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	src := t.TempDir()
	makeTree(t, src)
	own := os.Geteuid() == 0
	if err := s.copyIn(t, agent.FromFS(os.DirFS(src), agent.PackOptions{Own: true}), "/there/new"); err != nil {
		t.Fatal(err)
	}
	want := describe(t, src)
	got := describe(t, s.root+"/there/new")
	if sameButRoot(got) != sameButRoot(want) {
		t.Fatalf("in the guest:\n%s\nwant:\n%s", got, want)
	}
	back := t.TempDir()
	if err := s.copyOut(t, "/there/new", back, agent.ExtractOptions{Own: own, Special: true}); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, back); sameButRoot(got) != sameButRoot(want) {
		t.Errorf("back:\n%s\nwant:\n%s", got, want)
	}
	// Again over what is there: the same.
	if err := s.copyIn(t, agent.FromFS(os.DirFS(src), agent.PackOptions{Own: true}), "/there/new"); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, s.root+"/there/new"); sameButRoot(got) != sameButRoot(want) {
		t.Errorf("over what was there:\n%s\nwant:\n%s", got, want)
	}
	if err := s.copyOut(t, "/there/new", back, agent.ExtractOptions{Own: own, Special: true}); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, back); sameButRoot(got) != sameButRoot(want) {
		t.Errorf("back over what was there:\n%s\nwant:\n%s", got, want)
	}
	var st unix.Stat_t
	for _, f := range []string{s.root + "/there/new/sparse", back + "/sparse"} {
		if unix.Stat(f, &st); st.Blocks*512 > 1<<20 {
			t.Errorf("%s takes %d bytes of disk", f, st.Blocks*512)
		}
	}
}

// sameButRoot is a description without its first line, of the root itself.
func sameButRoot(s string) string {
	_, rest, _ := strings.Cut(s, "\n")
	return rest
}

func TestTreeWithoutWhatIsDangerous(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	makeTree(t, s.root)
	back := t.TempDir()
	if err := s.copyOut(t, "/", back, agent.ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(back + "/run me")
	if err != nil || fi.Mode() != 0o755 {
		t.Errorf("a setuid program: %v %v", fi.Mode(), err)
	}
	for _, name := range []string{"fifo", "null"} {
		if _, err := os.Lstat(back + "/" + name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if fi, err := os.Stat(back + "/a"); err != nil || int(fi.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		t.Errorf("the owner of a: %v", err)
	}
}

func TestTreeAsTar(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	src := t.TempDir()
	makeTree(t, src)
	if err := s.copyIn(t, agent.FromFS(os.DirFS(src), agent.PackOptions{Own: true}), "one"); err != nil {
		t.Fatal(err)
	}
	tree, err := s.client.ReadTree(context2(t), "one", false, agent.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var archive bytes.Buffer
	if err := tree.Tar(&archive, "."); err != nil {
		t.Fatal(err)
	}
	if err := s.copyIn(t, agent.FromTar(bytes.NewReader(archive.Bytes()), agent.PackOptions{Own: true}), "two"); err != nil {
		t.Fatal(err)
	}
	want := describe(t, s.root+"/one")
	if got := describe(t, s.root+"/two"); sameButRoot(got) != sameButRoot(want) {
		t.Errorf("by way of tar:\n%s\nwant:\n%s", got, want)
	}
	// And with no guest in between.
	local := agent.FromTar(bytes.NewReader(archive.Bytes()), agent.PackOptions{Own: true}).Tree(agent.Limits{})
	defer local.Close()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := local.Extract(root, agent.ExtractOptions{Own: true, Special: true, Made: true}); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, dir); sameButRoot(got) != sameButRoot(want) {
		t.Errorf("unpacked here:\n%s\nwant:\n%s", got, want)
	}
}

func TestTreeFromAnyFS(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	m := fstest.MapFS{
		".":        {Mode: 0o755 | fs.ModeDir},
		"dir":      {Mode: 0o755 | fs.ModeDir},
		"dir/file": {Data: []byte("content"), Mode: 0o644},
		"top":      {Data: []byte("x"), Mode: 0o755},
	}
	if err := s.copyIn(t, agent.FromFS(m, agent.PackOptions{}), "x"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(s.root + "/x/dir/file"); err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
	if fi, err := os.Stat(s.root + "/x/top"); err != nil || fi.Mode() != 0o755 {
		t.Errorf("%v %v", fi, err)
	}
}

// tarOf makes an archive of entries in the order given.
func tarOf(t *testing.T, members ...member) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h, content := m.Header, m.content
		h.Size = int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

type member struct {
	tar.Header
	content string
}

func file(name, content string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name}, content}
}

func symlink(name, target string) member {
	return member{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}}
}

func hardlink(name, target string) member {
	return member{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

// TestTreeStaysInside: whatever an archive holds, nothing beside the target changes.
func TestTreeStaysInside(t *testing.T) {
	for name, members := range map[string][]member{
		"dotdot":             {file("../outside/f", "x")},
		"dotdot inside":      {file("a/../../outside/f", "x")},
		"relative symlink":   {symlink("l", "../outside"), file("l/f", "x")},
		"absolute symlink":   {symlink("l", "/outside"), file("l/f", "x")},
		"symlink to symlink": {symlink("a", ".."), symlink("b", "a/outside"), file("b/f", "x")},
		"there before":       {file("before/f", "x")},
		"over a symlink":     {symlink("l", "../outside/f"), file("l", "x")},
		"link out":           {hardlink("h", "../outside/f")},
		"link by symlink":    {symlink("l", "../outside"), hardlink("h", "l/f"), file("h", "x")},
		"dir over symlink":   {symlink("l", "../outside"), {Header: tar.Header{Typeflag: tar.TypeDir, Name: "l", Mode: 0o777}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, guest.ServeConfig{})
			os.Mkdir(s.root+"/outside", 0o700)
			os.WriteFile(s.root+"/outside/f", []byte("precious"), 0o600)
			os.Mkdir(s.root+"/target", 0o755)
			os.Symlink(s.root+"/outside", s.root+"/target/before")
			before := describe(t, s.root+"/outside")
			err := s.copyIn(t, agent.FromTar(tarOf(t, members...), agent.PackOptions{}), "target")
			if after := describe(t, s.root+"/outside"); after != before {
				t.Errorf("outside there is now\n%s\nafter %v", after, err)
			}
			t.Log(err)
		})
	}
}

func TestTreeClashes(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	os.MkdirAll(s.root+"/d/dir/x", 0o755)
	os.WriteFile(s.root+"/d/file", []byte("old"), 0o644)
	err := s.copyIn(t, agent.FromTar(tarOf(t, file("dir", "x")), agent.PackOptions{}), "d")
	wantCode(t, err, wire.Conflict, "dir")
	err = s.copyIn(t, agent.FromTar(tarOf(t, file("file/x", "x")), agent.PackOptions{}), "d")
	wantCode(t, err, wire.Invalid, "not a directory")
	err = s.copyIn(t, agent.FromTar(strings.NewReader("no tar archive"), agent.PackOptions{}), "d")
	wantCode(t, err, wire.Invalid, "tar")
	broken := errors.New("the source broke")
	err = s.copyIn(t, agent.FromTar(io.MultiReader(io.LimitReader(tarOf(t, file("file", strings.Repeat("n", 4000))), 2000), &failing{broken}), agent.PackOptions{}), "d")
	if !errors.Is(err, broken) {
		t.Errorf("a broken source: %v", err)
	}
	eventually(t, "the half file goes", func() bool {
		entries, _ := os.ReadDir(s.root + "/d")
		return len(entries) == 2
	})
	if b, _ := os.ReadFile(s.root + "/d/file"); string(b) != "old" {
		t.Errorf("the file holds %q", b)
	}
	tree, err := s.client.ReadTree(context2(t), "d", false, agent.Limits{MaxEntries: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	wantCode(t, tree.Tar(io.Discard, ""), wire.Exhausted, "more than 2")
	_, err = s.client.ReadTree(context2(t), "missing", false, agent.Limits{})
	wantCode(t, err, wire.NotFound, "missing")
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// hostile is a client of a guest that answers every request with answer.
func hostile(t *testing.T, answer func(st *wire.Stream)) *agent.Client {
	t.Helper()
	host, end := socketpair(t)
	server := wire.NewConnServer(end)
	over := make(chan struct{})
	go func() {
		defer close(over)
		m, err := server.Accept(func(wire.Hello) wire.HelloReply { return wire.HelloReply{} })
		for err == nil {
			var st *wire.Stream
			if st, _, err = m.Accept(); err == nil {
				answer(st)
				st.Close()
			}
		}
	}()
	c, err := agent.Connect(context2(t), func(context.Context) (net.Conn, error) { return host, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); host.Close(); <-over })
	return c
}

// evil packs entries that no honest guest would send.
func evil(st *wire.Stream, entries []wire.Entry) {
	st.SendControl(wire.Control{Stat: &wire.Stat{Type: "dir"}})
	buf := make([]byte, wire.MaxData)
	w := wire.NewTreeWriter(buf, func(n int) error { return st.Send(wire.KindData, buf[:n]) })
	for _, e := range entries {
		w.Entry(&e)
		if e.Size > 0 {
			w.Hole(e.Size)
		}
	}
	w.End()
	st.SendControl(wire.Control{Done: &wire.Done{}})
	st.CloseSend()
}

// TestHostileTreeStaysInside: whatever a guest sends, nothing beside the
// directory of the host changes.
func TestHostileTreeStaysInside(t *testing.T) {
	dir := wire.Entry{Type: wire.EntryDir, Mode: 0o777}
	f := func(path string) wire.Entry {
		return wire.Entry{Type: wire.EntryFile, Path: path, Mode: 0o4777, Size: 3}
	}
	link := func(path, to string) wire.Entry { return wire.Entry{Type: wire.EntrySymlink, Path: path, Link: to} }
	hard := func(path, to string) wire.Entry { return wire.Entry{Type: wire.EntryLink, Path: path, Link: to} }
	at := func(e wire.Entry, path string) wire.Entry { e.Path = path; return e }
	for name, entries := range map[string][]wire.Entry{
		"relative symlink":   {link("l", "../outside"), f("l/f")},
		"chain":              {link("a", ".."), link("b", "a/outside"), f("b/f")},
		"there before":       {f("before/f")},
		"dir through":        {at(dir, "before/sub")},
		"dir over":           {at(dir, "before")},
		"link through":       {hard("h", "before/f"), f("h")},
		"link to a symlink":  {link("l", "../outside/f"), hard("h", "l"), f("h")},
		"over a symlink":     {link("l", "../outside/f"), f("l")},
		"symlink of dir":     {at(dir, "d"), f("d/x"), link("d", "../outside")},
		"swap by hard link":  {link("l", "../outside"), hard("m", "l"), f("m/f")},
		"symlink as parent":  {link("before/l", "x")},
		"absolute":           {link("l", "/"), f("l/tmp/bandsox-escaped")},
		"magic":              {link("l", "/proc/self/root"), f("l/tmp/bandsox-escaped")},
		"root as a file":     {{Type: wire.EntryFile, Path: ".", Size: 1}},
		"root as a symlink":  {link(".", "../outside"), f("f")},
		"mode of the parent": {at(dir, "."), at(dir, "before/.")},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			os.Mkdir(top+"/outside", 0o700)
			os.WriteFile(top+"/outside/f", []byte("precious"), 0o600)
			os.Mkdir(top+"/target", 0o755)
			os.Symlink(top+"/outside", top+"/target/before")
			before := describe(t, top+"/outside")
			c := hostile(t, func(st *wire.Stream) { evil(st, entries) })
			tree, err := c.ReadTree(context2(t), "x", false, agent.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			root, err := os.OpenRoot(top + "/target")
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			err = tree.Extract(root, agent.ExtractOptions{Special: true, Made: true})
			if err != nil && wire.CodeOf(err) == wire.Internal {
				t.Errorf("an error without a class: %v", err)
			}
			if after := describe(t, top+"/outside"); after != before {
				t.Errorf("outside there is now\n%s\nafter %v", after, err)
			}
			if _, err := os.Lstat("/tmp/bandsox-escaped"); err == nil {
				t.Error("a file was written where an absolute symlink led")
			}
			t.Log(err)
		})
	}
}

// FuzzHostileTree: any bytes in place of a tree end in an error or inside.
func FuzzHostileTree(f *testing.F) {
	var b []byte
	buf := make([]byte, wire.MaxData)
	w := wire.NewTreeWriter(buf, func(n int) error { b = append(b, buf[:n]...); return nil })
	for _, e := range []wire.Entry{
		{Type: wire.EntryDir, Path: "d", Mode: 0o755},
		{Type: wire.EntryFile, Path: "d/f", Mode: 0o644, Size: 100},
		{Type: wire.EntrySymlink, Path: "l", Link: "../outside"},
		{Type: wire.EntryLink, Path: "h", Link: "d/f"},
	} {
		w.Entry(&e)
		w.Hole(e.Size)
	}
	w.End()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		os.Mkdir(top+"/outside", 0o700)
		os.Mkdir(top+"/target", 0o700)
		before := describe(t, top+"/outside")
		c := hostile(t, func(st *wire.Stream) {
			st.SendControl(wire.Control{Stat: &wire.Stat{Type: "dir"}})
			st.Send(wire.KindData, b)
			st.SendControl(wire.Control{Done: &wire.Done{}})
			st.CloseSend()
		})
		tree, err := c.ReadTree(context2(t), "x", false, agent.Limits{MaxEntries: 100, MaxBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		root, err := os.OpenRoot(top + "/target")
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = tree.Extract(root, agent.ExtractOptions{})
		entries, _ := os.ReadDir(top)
		if after := describe(t, top+"/outside"); after != before || len(entries) != 2 {
			t.Errorf("outside: %s, %v", after, entries)
		}
	})
}

// FuzzHostileHost: any bytes in place of a tree change nothing in a guest but
// what is below the target.
func FuzzHostileHost(f *testing.F) {
	pack := func(entries ...wire.Entry) []byte {
		var b []byte
		buf := make([]byte, 4096)
		w := wire.NewTreeWriter(buf, func(n int) error { b = append(b, buf[:n]...); return nil })
		for _, e := range entries {
			w.Entry(&e)
			w.Hole(e.Size)
		}
		w.End()
		return b
	}
	f.Add(pack(wire.Entry{Type: wire.EntrySymlink, Path: "l", Link: "../outside"}, wire.Entry{Type: wire.EntryFile, Path: "l/f", Size: 3}))
	f.Add(pack(wire.Entry{Type: wire.EntryDir, Path: "d", Mode: 0o755}, wire.Entry{Type: wire.EntryLink, Path: "h", Link: "d/../f"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		root := t.TempDir()
		os.Mkdir(root+"/outside", 0o700)
		os.Mkdir(root+"/target", 0o700)
		before := describe(t, root+"/outside")
		host, end := socketpair(t)
		over := make(chan error, 1)
		go func() {
			over <- guest.Serve(context.Background(), end, guest.ServeConfig{Fake: true, Root: root})
		}()
		m, _, err := wire.Connect(context2(t), host, wire.Hello{})
		if err != nil {
			t.Fatal(err)
		}
		st, err := m.Open(context2(t), wire.Request{Op: wire.OpTreeWrite, Tree: &wire.TreeRequest{Path: "target"}})
		if err != nil {
			t.Fatal(err)
		}
		st.Send(wire.KindData, b)
		st.CloseSend()
		if _, _, err := st.Recv(); err == io.EOF {
			t.Error("no answer")
		}
		m.Close()
		<-over
		entries, _ := os.ReadDir(root)
		if after := describe(t, root+"/outside"); after != before || len(entries) != 2 {
			t.Errorf("outside: %s, %v", after, entries)
		}
	})
}
