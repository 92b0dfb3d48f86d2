package vmtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// files looks at and changes files where names and directories are the
// kernel's: those of the base, which the overlay has to copy up, included.
func (s *suite) files() {
	c := s.connect(s.boot(s.Spec(s, "files", s.dir)))
	change := func(op wire.Op, r wire.ChangeRequest) {
		s.Helper()
		if _, err := c.Change(s.ctx, op, r); err != nil {
			s.Fatalf("%s %+v: %v", op, r, err)
		}
	}
	find := func(r wire.FindRequest) (paths []string) {
		s.Helper()
		for st, err := range c.Find(s.ctx, r) {
			if err != nil {
				s.Fatalf("%+v: %s %v", r, st.Path, err)
			}
			paths = append(paths, st.Path)
		}
		return paths
	}
	change(wire.OpMkdir, wire.ChangeRequest{Path: "/tmp/files", Parents: true})
	w, err := c.Watch(s.ctx, wire.WatchRequest{Path: "/tmp/files", Recursive: true})
	if err != nil {
		s.Fatal(err)
	}
	defer w.Close()
	var want []string
	for i, name := range []string{strings.Repeat("n", 255), "new\nline", "\xff\xfe", " ", "ü", "*"} {
		dir := fmt.Sprintf("/tmp/files/%d", i)
		want = append(want, "created "+dir, "created "+dir+"/"+name)
		change(wire.OpMkdir, wire.ChangeRequest{Path: wire.Text(dir + "/" + name), Parents: true})
	}
	var seen []string
	for len(seen) < len(want) {
		e, err := w.Next()
		if err != nil {
			s.Fatalf("after %q: %v", seen, err)
		}
		if e.Op == wire.FileCreated {
			seen = append(seen, string(e.Op)+" "+e.Path)
		}
	}
	if !slices.Equal(seen, want) {
		s.Errorf("watched: %q, want %q", seen, want)
	}
	change(wire.OpRename, wire.ChangeRequest{Path: "/tmp/files", To: "/tmp/moved"})
	change(wire.OpChown, wire.ChangeRequest{Path: "/tmp/moved", Owner: "0:0", Recursive: true})
	change(wire.OpChmod, wire.ChangeRequest{Path: "/tmp/moved", Mode: 0o750, Recursive: true})
	if got := find(wire.FindRequest{Path: "/tmp/moved", Type: "dir"}); len(got) != 1+len(want) {
		s.Errorf("moved: %q", got)
	}
	if s.Can.Drives { // a directory of the base
		change(wire.OpRename, wire.ChangeRequest{Path: "/tmp", To: "/elsewhere"})
		change(wire.OpRename, wire.ChangeRequest{Path: "/elsewhere", To: "/tmp"})
	}
	change(wire.OpRemove, wire.ChangeRequest{Path: "/tmp/moved", Recursive: true})
	if got := find(wire.FindRequest{Path: "/tmp", Include: []wire.Text{"moved"}}); len(got) > 0 {
		s.Errorf("left: %q", got)
	}
	_, err = c.Change(s.ctx, wire.OpRemove, wire.ChangeRequest{Path: "/", Recursive: true})
	if wire.CodeOf(err) != wire.Denied {
		s.Errorf("removing the root: %v", err)
	}
}
