package image

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/bandsox/bandsox/internal/wire"
)

// Layer is one layer of an image as an uncompressed tar stream. Flatten opens
// it up to twice; both streams must be the same. A stream that is an io.Seeker
// too is skipped through, not read, where its contents don't matter. A Layer that
// is a fmt.Stringer is named by it in errors.
type Layer interface {
	Uncompressed() (io.ReadCloser, error)
}

// Limits bounds what an image may unpack to; zero means no limit.
type Limits struct {
	MaxBytes   int64 // contents of all files in all layers, holes included
	MaxEntries int   // entries in all layers, and directories they imply

	// Scratch is a directory for layers that are kept unpacked meanwhile, in
	// nameless files; without one they are all unpacked twice.
	Scratch string
}

// Flatten merges layers, lowest first, into one tar stream without whiteouts.
//
// It goes over the layers twice: once for an index of names, so that memory grows
// with the number of entries and never with their contents, and once for the
// contents of the files that are left. Entries come in an order that every
// extractor accepts: directories, symbolic links and devices in the order of
// their names, parents first; then files in the order of the layers; then hard
// links. Equal layers give equal bytes.
//
// The rules are those of the OCI image specification, applied as containerd
// does: names are taken inside the root whatever they say, a symbolic link
// among an entry's parents is followed inside the root, a later entry of a
// layer replaces an earlier one, and whiteouts hide only what lower layers
// hold. Nothing is ever written but w.
func Flatten(ctx context.Context, layers []Layer, w io.Writer, lim Limits) error {
	return merge(ctx, layers, w, lim, newKeeper(lim.Scratch))
}

func merge(ctx context.Context, layers []Layer, w io.Writer, lim Limits, k *keeper) error {
	b := &budget{lim: lim}
	t := newTree(b)
	kept := make([]*unpacked, len(layers))
	defer func() {
		for _, u := range kept {
			u.drop()
		}
	}()
	for i, l := range layers {
		entries, u, err := scan(ctx, l, b, k)
		kept[i] = u
		if err == nil {
			err = t.apply(ctx, i, entries)
		}
		if err != nil {
			return layerError(err, i, layers)
		}
	}
	out := bufio.NewWriterSize(w, 256<<10)
	e := &emitter{tw: tar.NewWriter(out), files: make([][]*inode, len(layers))}
	if err := e.tree(ctx, t.root); err != nil {
		return err
	}
	for i := range layers {
		if err := e.contents(ctx, layers[i], kept[i], e.files[i]); err != nil {
			return layerError(err, i, layers)
		}
		kept[i].drop()
	}
	for _, n := range e.links {
		h := &tar.Header{Typeflag: tar.TypeLink, Name: n.path(), Linkname: n.ino.at.path(), Format: tar.FormatPAX}
		if err := e.header(h); err != nil {
			return err
		}
	}
	if err := e.tw.Close(); err != nil {
		return writeError{err}
	}
	if err := out.Flush(); err != nil {
		return writeError{err}
	}
	return nil
}

// emitter writes the merged tree.
type emitter struct {
	tw    *tar.Writer
	files [][]*inode // by layer: files whose contents come from it
	links []*node    // further names of files that are written under their first
	buf   []byte
}

// tree writes all but the contents: directories and whatever else is only a
// header, and notes the rest for later.
func (e *emitter) tree(ctx context.Context, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.kids == nil {
		if n.ino.at != nil {
			e.links = append(e.links, n)
			return nil
		}
		n.ino.at = n
		if n.ino.kind == tar.TypeReg {
			e.files[n.ino.layer] = append(e.files[n.ino.layer], n.ino)
			return nil
		}
		return e.header(n.ino.meta.header(n.ino.kind, n.path()))
	}
	if err := e.header(n.ino.meta.header(tar.TypeDir, n.path()+"/")); err != nil {
		return err
	}
	for _, name := range n.names() {
		if err := e.tree(ctx, n.kids[name]); err != nil {
			return err
		}
	}
	return nil
}

// contents reads a layer again, as far as its last file that is still there.
func (e *emitter) contents(ctx context.Context, l Layer, u *unpacked, files []*inode) error {
	if len(files) == 0 {
		return nil
	}
	slices.SortFunc(files, func(a, b *inode) int { return cmp.Compare(a.index, b.index) })
	if e.buf == nil {
		e.buf = make([]byte, 128<<10)
	}
	r, done, err := u.open(ctx, l)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(r)
	for index := int32(0); len(files) > 0; index++ {
		h, err := next(tr)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		f := files[0]
		if index != f.index {
			continue
		}
		files = files[1:]
		m, err := metaOf(h)
		if err != nil {
			return err
		}
		if kindOf(h) != tar.TypeReg || h.Size != f.size {
			return errors.New("it changed while it was read")
		}
		out := m.header(tar.TypeReg, f.at.path())
		out.Size = h.Size
		if err := e.header(out); err != nil {
			return err
		}
		if err := e.copy(tr); err != nil {
			return err
		}
	}
	return nil
}

// copy is io.CopyBuffer that tells a failing reader from a failing writer.
func (e *emitter) copy(r io.Reader) error {
	for {
		n, err := r.Read(e.buf)
		if n > 0 {
			if _, err := e.tw.Write(e.buf[:n]); err != nil {
				return writeError{err}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (e *emitter) header(h *tar.Header) error {
	if err := e.tw.WriteHeader(h); err != nil {
		return writeError{fmt.Errorf("%s: %w", quote(h.Name), err)}
	}
	return nil
}

// writeError is a failure of the output: no layer's fault.
type writeError struct{ err error }

func (e writeError) Error() string { return "writing the flattened image: " + e.err.Error() }
func (e writeError) Unwrap() error { return e.err }

// layerError says which layer failed. A cause without a class of its own is
// the layer's contents: truncated, corrupt, or no tar at all.
func layerError(err error, i int, layers []Layer) error {
	if errors.As(err, new(writeError)) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	name := fmt.Sprintf("layer %d of %d", i+1, len(layers))
	if s, ok := layers[i].(fmt.Stringer); ok {
		name += " (" + s.String() + ")"
	}
	out := wire.Errorf(wire.Invalid, "reading %s: %w", name, err)
	var e *wire.Error
	if errors.As(err, &e) {
		out.Code, out.Hint = e.Code, e.Hint
	}
	return out
}
