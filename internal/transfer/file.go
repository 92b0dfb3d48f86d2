package transfer

import (
	"context"
	"io"
	"io/fs"

	"github.com/bandsox/bandsox/internal/wire"
)

// File is a file of a sandbox, open for reading. It has one stream at a time:
// a Seek elsewhere ends it and the next Read opens another. One goroutine may
// use it at a time, but ReadAt has a stream of its own.
type File struct {
	ctx  context.Context
	side *Side
	path string
	stat wire.Stat
	at   int64 // where the next Read reads
	r    io.ReadCloser
	rAt  int64 // where r stands
	shut bool
}

// Open opens a regular file for reading. ctx is for all of the reading.
func (s *Side) Open(ctx context.Context, path string) (*File, error) {
	f := &File{ctx: ctx, side: s, path: path}
	var err error
	f.stat, f.r, err = s.Remote.Read(ctx, wire.ReadRequest{Path: path})
	if err != nil {
		return nil, s.Fail("read", path, err)
	}
	return f, nil
}

// Stat is what the file was when it was opened.
func (f *File) Stat() wire.Stat { return f.stat }

// Read reads on. It returns io.EOF only when the guest said that this was all.
func (f *File) Read(p []byte) (int, error) {
	if f.shut {
		return 0, f.side.Fail("read", f.path, fs.ErrClosed)
	}
	if f.r != nil && f.rAt != f.at {
		f.r.Close()
		f.r = nil
	}
	if f.r == nil {
		r, err := f.reopen(f.at, 0)
		if err != nil {
			return 0, err
		}
		f.r, f.rAt = r, f.at
	}
	n, err := f.r.Read(p)
	f.at, f.rAt = f.at+int64(n), f.rAt+int64(n)
	if err != io.EOF {
		err = f.side.Fail("read", f.path, err)
	}
	return n, err
}

// reopen reads on from offset, if the file is still the one that was opened.
func (f *File) reopen(offset, length int64) (io.ReadCloser, error) {
	st, r, err := f.side.Remote.Read(f.ctx, wire.ReadRequest{Path: f.path, Offset: offset, Length: length})
	if err == nil && st.Inode != f.stat.Inode {
		r.Close()
		err = wire.Errorf(wire.Conflict, "another file has taken its place")
	}
	return r, f.side.Fail("read", f.path, err)
}

// ReadAt reads a range of the file, as io.ReaderAt has it.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, f.side.invalid("read", f.path, "a negative offset")
	case len(p) == 0:
		return 0, nil
	}
	r, err := f.reopen(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, p)
	switch err {
	case nil:
	case io.ErrUnexpectedEOF, io.EOF:
		return n, io.EOF
	}
	return n, f.side.Fail("read", f.path, err)
}

// Seek says where the next Read reads. The end is where it was when the file
// was opened.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.stat.Size
	}
	if offset < 0 || whence < io.SeekStart || whence > io.SeekEnd {
		return 0, f.side.invalid("read", f.path, "seeking to %d, whence %d", offset, whence)
	}
	f.at = offset
	return offset, nil
}

// Close ends the reading.
func (f *File) Close() error {
	f.shut = true
	if f.r == nil {
		return nil
	}
	return f.r.Close()
}
