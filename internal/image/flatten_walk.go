package image

import (
	"archive/tar"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// walker finds a directory, as the kernel would with the tree as its root.
type walker struct {
	t     *tree
	make  bool      // make directories that are missing
	mtime time.Time // of those
	hops  int
}

// walk returns the directory that name leads to, following symbolic links
// inside the root. With mk it makes what is missing, also in the place of
// something that is no directory; without, it returns nil for such a name, and
// for one that leads through a link where the layer has declared a directory.
func (t *tree) walk(name string, mk bool, mtime time.Time, declared map[string]bool) (*node, error) {
	w := &walker{t: t, make: mk, mtime: mtime}
	n := t.root
	for done := 0; done < len(name) && n != nil; {
		part, _, _ := strings.Cut(name[done:], "/")
		if kid := n.kids[part]; kid != nil && kid.ino.kind == tar.TypeSymlink && declared[name[:done+len(part)]] {
			return nil, nil
		}
		var err error
		if n, err = w.step(n, part); err != nil {
			return nil, err
		}
		done += len(part) + 1
	}
	return n, nil
}

// step goes from the directory n to what part names in it.
func (w *walker) step(n *node, part string) (*node, error) {
	switch part {
	case "", ".":
		return n, nil
	case "..":
		if n.parent != nil {
			n = n.parent
		}
		return n, nil
	}
	kid := n.kids[part]
	switch {
	case kid != nil && kid.kids != nil:
		return kid, nil
	case kid != nil && kid.ino.kind == tar.TypeSymlink:
		return w.follow(n, kid.ino.meta.link)
	case !w.make:
		return nil, nil
	}
	if strings.HasPrefix(part, whiteoutPrefix) {
		return nil, wire.Errorf(wire.Invalid, "a whiteout among its parents")
	}
	if err := w.t.budget.entry(); err != nil {
		return nil, err
	}
	kid, err := n.put(part, &inode{kind: tar.TypeDir, meta: &meta{mode: 0o755, mtime: w.mtime}})
	if err == nil {
		kid.kids = map[string]*node{}
	}
	return kid, err
}

func (w *walker) follow(n *node, link string) (*node, error) {
	if w.hops++; w.hops > maxHops {
		return nil, wire.Errorf(wire.Invalid, "more than %d symbolic links among its parents", maxHops)
	}
	if strings.HasPrefix(link, "/") {
		n = w.t.root
	}
	for part := range strings.SplitSeq(link, "/") {
		if err := w.t.budget.step(); err != nil {
			return nil, err
		}
		if len(part) > maxName {
			return nil, wire.Errorf(wire.Invalid, "a symbolic link among its parents holds a name of %d bytes", len(part))
		}
		var err error
		if n, err = w.step(n, part); n == nil {
			return nil, err
		}
	}
	return n, nil
}
