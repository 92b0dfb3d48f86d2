package transfer

import (
	"errors"
	"io"

	"github.com/bandsox/bandsox/internal/wire"
)

// FileWriter writes a file of a sandbox, which is as it was until Close.
type FileWriter struct {
	path string
	w    Writer
	side *Side
}

// Writer is what a FileWriter writes to. After Close or Abort its Write fails
// with io.ErrClosedPipe.
type Writer interface {
	io.WriteCloser
	Abort()
}

// Writer makes the FileWriter of the file at path, which w writes.
func (s *Side) Writer(path string, w Writer) *FileWriter {
	return &FileWriter{path: path, w: w, side: s}
}

// Write sends p to the guest. If it fails, the file stays as it was.
func (w *FileWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	return n, w.fail(err)
}

// Close puts the file in its place: it returns when it is on the guest's disk.
func (w *FileWriter) Close() error { return w.fail(w.w.Close()) }

// Abort leaves the file as it was. After Close it does nothing.
func (w *FileWriter) Abort() { w.w.Abort() }

func (w *FileWriter) fail(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		err = wire.Errorf(wire.Invalid, "the file is closed already")
	}
	return w.side.Fail("write", w.path, err)
}
