package image

import (
	"archive/tar"
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// maxHops is how many symbolic links one path may lead through, as in Linux.
const maxHops = 40

// inode is a file; several nodes may share it, as hard links.
type inode struct {
	kind         byte
	layer, index int32 // where its contents are
	size         int64
	meta         *meta // nil for files, which are read again
	at           *node // the name it is written under
}

// node is a name in the merged tree.
type node struct {
	name   string
	parent *node            // nil: the root
	kids   map[string]*node // nil: no directory
	ino    *inode
	length int // of its path
}

func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if n.parent.parent == nil {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}

func (n *node) names() []string { return slices.Sorted(maps.Keys(n.kids)) }

// tree is the file system that the layers applied so far make.
type tree struct {
	root   *node
	budget *budget
}

func newTree(b *budget) *tree {
	root := &node{kids: map[string]*node{}, ino: &inode{kind: tar.TypeDir, meta: &meta{mode: 0o755, mtime: time.Unix(0, 0)}}}
	return &tree{root, b}
}

// apply puts one layer on top. Whiteouts go first, wherever in the layer they
// are, because they hide only what lies below.
func (t *tree) apply(ctx context.Context, layer int, entries []entry) error {
	if err := t.resolve(entries); err != nil {
		return err
	}
	if err := t.hideAll(entries); err != nil {
		return err
	}
	var late []*entry // hard links to what their layer holds further on
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &entries[i]
		ok, err := t.add(int32(layer), e)
		if err != nil {
			return err
		}
		if !ok {
			late = append(late, e)
		}
	}
	for len(late) > 0 {
		n := len(late)
		var err error
		late = slices.DeleteFunc(late, func(e *entry) bool {
			ok, addErr := t.add(int32(layer), e)
			if addErr != nil && err == nil {
				err = addErr
			}
			return ok
		})
		if err != nil {
			return err
		}
		if len(late) == n {
			return badName(late[0].name, "its hard link's target %s is no file of this or a lower layer", quote(late[0].link))
		}
	}
	return nil
}

// resolve has hard links remember what their targets are below this layer,
// which may be about to hide or to replace them.
func (t *tree) resolve(entries []entry) error {
	for i := range entries {
		e := &entries[i]
		if e.kind != tar.TypeLink {
			continue
		}
		n, err := t.find(e.link)
		if err != nil {
			return within(e.name, err)
		}
		if n != nil && n.kids == nil {
			e.lower = n.ino
		}
	}
	return nil
}

// hideAll applies a layer's whiteouts.
func (t *tree) hideAll(entries []entry) error {
	if !slices.ContainsFunc(entries, entry.isWhiteout) {
		return nil
	}
	declared := make(map[string]bool)
	for i := range entries {
		if entries[i].kind == tar.TypeDir {
			declared[entries[i].name] = true
		}
	}
	for i := range entries {
		if err := t.hide(&entries[i], declared); err != nil {
			return err
		}
	}
	return nil
}

func (e entry) isWhiteout() bool { return e.kind == kindWhiteout || e.kind == kindOpaque }

// hide applies e if it is a whiteout.
func (t *tree) hide(e *entry, declared map[string]bool) error {
	if !e.isWhiteout() {
		return nil
	}
	dir, base := e.name, ""
	if e.kind == kindWhiteout {
		dir, base = split(e.name)
	}
	// A directory of this layer that takes a lower symbolic link's place
	// has nothing below it to hide; least of all what the link leads to.
	n, err := t.walk(dir, false, time.Time{}, declared)
	if err != nil {
		return within(e.name, err)
	}
	switch {
	case n == nil:
	case e.kind == kindOpaque:
		clear(n.kids)
	default:
		delete(n.kids, base)
	}
	return nil
}

// add puts e into the tree; false: it's a hard link to nothing yet.
func (t *tree) add(layer int32, e *entry) (bool, error) {
	if e.isWhiteout() {
		return true, nil
	}
	ino := &inode{kind: e.kind, layer: layer, index: e.index, size: e.size, meta: e.meta}
	if e.kind == tar.TypeLink {
		target, err := t.find(e.link)
		if err != nil {
			return false, within(e.name, err)
		}
		switch {
		case target != nil && target.kids == nil:
			ino = target.ino
		case e.lower != nil:
			ino = e.lower
		default:
			return false, nil
		}
	}
	if e.name == "" {
		t.root.ino = ino
		return true, nil
	}
	dir, base := split(e.name)
	parent, err := t.walk(dir, true, e.mtime, nil)
	if err != nil {
		return false, within(e.name, err)
	}
	if old := parent.kids[base]; e.kind == tar.TypeDir && old != nil && old.kids != nil {
		old.ino = ino
		return true, nil
	}
	n, err := parent.put(base, ino)
	if err != nil {
		return false, within(e.name, err)
	}
	if e.kind == tar.TypeDir {
		n.kids = map[string]*node{}
	}
	return true, nil
}

func (n *node) put(name string, ino *inode) (*node, error) {
	// A clone, so that the whole path it is cut from can go.
	kid := &node{name: strings.Clone(name), parent: n, ino: ino, length: n.length + 1 + len(name)}
	if kid.length > maxPath+1 {
		return nil, badName(name, "its path is longer than %d bytes", maxPath)
	}
	n.kids[kid.name] = kid
	return kid, nil
}

// find returns the node of a name, not following it if it is a symbolic link;
// nil if there is none.
func (t *tree) find(name string) (*node, error) {
	if name == "" {
		return t.root, nil
	}
	dir, base := split(name)
	n, err := t.walk(dir, false, time.Time{}, nil)
	if n == nil {
		return nil, err
	}
	return n.kids[base], nil
}

func split(name string) (dir, base string) {
	dir, base = path.Split(name)
	return strings.TrimSuffix(dir, "/"), base
}
