package bandsox

import (
	"context"
	"io"
	"iter"

	"github.com/bandsox/bandsox/internal/wire"
)

// FileEvent is a change that Watch saw.
type FileEvent = wire.FileEvent

// FileOp is what a FileEvent says has happened.
type FileOp = wire.FileOp

// What can happen to a file. FileRemoved is also a file's that is moved to where
// nobody watches, FileCreated one's that comes from there, or takes another's
// place. After FileOverflow events are missing: look for yourself.
const (
	FileCreated  = wire.FileCreated
	FileModified = wire.FileModified
	FileRemoved  = wire.FileRemoved
	FileRenamed  = wire.FileRenamed
	FileAttrib   = wire.FileAttrib
	FileOverflow = wire.FileOverflow
)

// WatchOptions are what Watch watches.
type WatchOptions struct {
	Recursive bool // directories below too, those that are made later included
}

// Watch yields what happens to a file, or in a directory, as it happens. The
// watch is on when Watch returns, and lasts until the loop over it or ctx ends;
// what it can't watch is the error that the loop gets. When what is watched is
// removed the loop ends. Who reads too slowly is told so by FileOverflow.
func (sb *Sandbox) Watch(ctx context.Context, path string, o WatchOptions) iter.Seq2[FileEvent, error] {
	ctx, cancel := context.WithCancel(ctx)
	client, err := sb.running(ctx)
	if err != nil {
		cancel()
		return failed[FileEvent](fail("watch", quoted(path), err))
	}
	w, err := client.Watch(ctx, wire.WatchRequest{Path: wire.Text(path), Recursive: o.Recursive})
	if err != nil {
		cancel()
		return failed[FileEvent](fail("watch", quoted(path), err))
	}
	return func(yield func(FileEvent, error) bool) {
		defer cancel()
		defer w.Close()
		for {
			e, err := w.Next()
			switch {
			case err == io.EOF:
				return
			case err != nil:
				yield(FileEvent{}, fail("watch", quoted(path), err))
				return
			case !yield(e, nil):
				return
			}
		}
	}
}

// failed is a sequence of nothing but an error.
func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		yield(zero, err)
	}
}
