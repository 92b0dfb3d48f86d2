package image

import (
	"context"
	"io"
	"os"

	"github.com/bandsox/bandsox/internal/wire"
)

// createSpool makes a temporary file in dir that has no name: it is gone when
// it is closed, or when this process dies in whatever way.
func createSpool(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "image-*")
	if err != nil {
		return nil, scratchError(dir, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, scratchError(dir, err)
	}
	return f, nil
}

// spool copies r to a nameless file in dir. More than limit bytes are an
// error. The error of a read is returned as it is, that of a write as
// scratchError says.
func spool(ctx context.Context, dir string, r io.Reader, limit int64, seen func(n int64)) (*os.File, error) {
	f, err := createSpool(dir)
	if err != nil {
		return nil, err
	}
	w := &spoolWriter{ctx: ctx, f: f, dir: dir, left: limit, limit: limit, seen: seen}
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		f.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return f, nil
}

type spoolWriter struct {
	ctx         context.Context
	f           *os.File
	dir         string
	left, limit int64
	seen        func(n int64)
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.left -= int64(len(p)); w.left < 0 {
		return 0, wire.Errorf(wire.Exhausted, "reading: more than the %s that are allowed", inUnits(w.limit))
	}
	n, err := w.f.Write(p)
	if err != nil {
		return n, scratchError(w.dir, err)
	}
	if w.seen != nil {
		w.seen(int64(n))
	}
	return n, nil
}
