package agent

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// maxEntries bounds a tree that a guest sends, where nothing else is asked for.
const maxEntries = 4 << 20

// Limits bound what is taken from a guest. Zero: MaxEntries is about four
// million, and any number of bytes.
type Limits struct {
	MaxEntries int64
	MaxBytes   int64 // of content, zeros included
}

// Tree is a tree of files that a guest sends. Every name in it has been
// checked; what its symlinks say has not.
type Tree struct {
	Root     wire.Stat // what is copied
	Progress func(done, total int64)

	finish  func() error // says whether all of it was sent as it is
	close   func() error
	first   *wire.Entry // seen already: the next one
	local   bool        // a Source's, whose finish only warns
	r       *wire.TreeReader
	limits  Limits
	entries int64
	bytes   int64 // of content, announced
	done    int64 // of it, come
	ended   bool  // all of the tree has come
}

// ReadTree asks for a tree. ctx is for all of the reading; close what is
// returned. With follow, path may be a symlink to it.
func (c *Client) ReadTree(ctx context.Context, path string, follow bool, limits Limits) (*Tree, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpTreeRead, Tree: &wire.TreeRequest{Path: path, Follow: follow}})
	if err != nil {
		return nil, err
	}
	st.CloseSend()
	root, err := expect(ctx, st, "copy", pickStat)
	if err != nil {
		st.Close()
		return nil, err
	}
	if limits.MaxEntries == 0 {
		limits.MaxEntries = maxEntries
	}
	t := &Tree{Root: *root, limits: limits, close: st.Close}
	t.r = wire.NewTreeReader(func() ([]byte, error) { return treePiece(ctx, st) })
	t.finish = func() error {
		_, err := expect(ctx, st, "copy", pickDone)
		return err
	}
	return t, nil
}

// treePiece takes the next piece of a tree. A guest that fails says so in place of it.
func treePiece(ctx context.Context, st *wire.Stream) ([]byte, error) {
	kind, b, err := st.RecvContext(ctx)
	if err != nil || kind == wire.KindData {
		return b, err
	}
	if msg, err := wire.ParseControl(b); err != nil {
		return nil, err
	} else if msg.Error != nil {
		return nil, msg.Error
	}
	return nil, wire.Errorf(wire.Internal, "copying from the guest: it sent another message in the middle")
}

// Next returns the next entry, and io.EOF only after the guest said that this
// was all. If some of it could not be copied as it was, then the last error
// is what the guest said of that, of code conflict, in place of io.EOF.
func (t *Tree) Next() (*wire.Entry, error) {
	if e := t.first; e != nil {
		t.first = nil
		return e, nil
	}
	e, err := t.r.Next()
	if err == io.EOF {
		t.ended = true
		if err := t.finish(); err != nil {
			t.ended = t.local
			return nil, err
		}
		if err := t.warned(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if err != nil {
		return nil, err
	}
	if t.entries++; t.entries > t.limits.MaxEntries {
		return nil, wire.Errorf(wire.Exhausted, "copying from the guest: it has more than %d files", t.limits.MaxEntries)
	}
	if t.bytes += e.Size; t.limits.MaxBytes > 0 && (t.bytes > t.limits.MaxBytes || t.bytes < 0) {
		return nil, wire.Errorf(wire.Exhausted, "copying from the guest: it has more than %d bytes", t.limits.MaxBytes)
	}
	return e, nil
}

// warned is what the guest could not send as it was, or nil.
func (t *Tree) warned() error {
	if t.r.Warned == 0 {
		return nil
	}
	text := strings.Join(t.r.Warnings, "; ")
	if more := t.r.Warned - len(t.r.Warnings); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return wire.Errorf(wire.Conflict, "all was copied, but: %s", text)
}

// Content is wire.TreeReader's.
func (t *Tree) Content() (data []byte, zeros int64, err error) {
	data, zeros, err = t.r.Content()
	if err == nil && t.Progress != nil {
		t.done += int64(len(data)) + zeros
		t.Progress(t.done, 0)
	}
	return data, zeros, err
}

// Close ends the reading.
func (t *Tree) Close() error { return t.close() }

// copyContent writes the content of the last entry. A w that can seek gets
// holes where there are zeros, and is to be cut to size by the caller.
func (t *Tree) copyContent(w io.Writer) error {
	seeker, _ := w.(io.Seeker)
	for {
		b, zeros, err := t.Content()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case len(b) > 0:
			_, err = w.Write(b)
		case seeker != nil:
			_, err = seeker.Seek(zeros, io.SeekCurrent)
		default:
			_, err = io.CopyN(w, zeroReader{}, zeros)
		}
		if err != nil {
			return err
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
