package agent

import (
	"errors"
	"io"
	"iter"

	"github.com/bandsox/bandsox/internal/wire"
)

// Tree is what s packs, to be unpacked on this host. Its limits and checks are
// those of a guest's tree: the archive that s reads may be just as hostile.
// Close it.
func (s *Source) Tree(limits Limits) *Tree {
	if limits.MaxEntries == 0 {
		limits.MaxEntries = maxEntries
	}
	next, stop := iter.Pull2(func(yield func([]byte, error) bool) {
		buf := make([]byte, chunk)
		left := errors.New("nobody reads on")
		w := wire.NewTreeWriter(buf, func(n int) error {
			if !yield(buf[:n], nil) {
				return left
			}
			return nil
		})
		err := s.pack(w, true)
		if err == nil {
			err = w.End()
		}
		if err != nil && err != left {
			yield(nil, err)
		}
	})
	t := &Tree{limits: limits, local: true, finish: s.warned, close: func() error { stop(); return nil }}
	t.r = wire.NewTreeReader(func() ([]byte, error) {
		b, err, ok := next()
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		return b, err
	})
	return t
}

// Ended reports whether all of the tree has come: an error after that only
// warns.
func (t *Tree) Ended() bool { return t.ended }

// NeedDir fails unless the tree's root is a directory.
func (t *Tree) NeedDir() error {
	e, err := t.Next()
	switch {
	case err == io.EOF, err == nil && (e.Path != "." || e.Type != wire.EntryDir):
		return wire.Errorf(wire.Invalid, "it is not a directory")
	case err != nil:
		return err
	}
	t.first = e
	return nil
}
