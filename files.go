package bandsox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// Stat is what is known of a file in a sandbox.
type Stat = wire.Stat

// Stat describes a file; a symbolic link itself, not what it leads to.
func (sb *Sandbox) Stat(ctx context.Context, path string) (Stat, error) {
	client, err := sb.reading(ctx)
	if err != nil {
		return Stat{}, fail("stat", path, err)
	}
	st, err := client.Stat(ctx, path)
	return st, fail("stat", path, err)
}

// File is a file of a sandbox, open for reading. It has one stream at a time:
// a Seek elsewhere ends it and the next Read opens another. One goroutine may
// use it at a time, but ReadAt has a stream of its own.
type File struct {
	ctx  context.Context
	sb   *Sandbox
	path string
	stat Stat
	at   int64 // where the next Read reads
	r    io.ReadCloser
	rAt  int64 // where r stands
	shut bool
}

// Open opens a regular file of the sandbox for reading. ctx is for all of the
// reading. What is read lies in the guest until then; close the file.
func (sb *Sandbox) Open(ctx context.Context, path string) (*File, error) {
	f := &File{ctx: ctx, sb: sb, path: path}
	var err error
	f.stat, f.r, err = sb.readStream(ctx, wire.ReadRequest{Path: path})
	if err != nil {
		return nil, fail("read", path, err)
	}
	return f, nil
}

func (sb *Sandbox) readStream(ctx context.Context, r wire.ReadRequest) (Stat, io.ReadCloser, error) {
	client, err := sb.reading(ctx)
	if err != nil {
		return Stat{}, nil, err
	}
	return client.Read(ctx, r)
}

// Stat is what the file was when it was opened.
func (f *File) Stat() Stat { return f.stat }

// Read reads on. It returns io.EOF only when the guest said that this was all.
func (f *File) Read(p []byte) (int, error) {
	if f.shut {
		return 0, fail("read", f.path, fs.ErrClosed)
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
		err = fail("read", f.path, err)
	}
	return n, err
}

// reopen reads on from offset, if the file is still the one that was opened.
func (f *File) reopen(offset, length int64) (io.ReadCloser, error) {
	st, r, err := f.sb.readStream(f.ctx, wire.ReadRequest{Path: f.path, Offset: offset, Length: length})
	if err == nil && st.Inode != f.stat.Inode {
		r.Close()
		err = wire.Errorf(CodeConflict, "another file has taken its place")
	}
	return r, fail("read", f.path, err)
}

// ReadAt reads a range of the file, as io.ReaderAt has it.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, invalid("read", f.path, "a negative offset")
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
	return n, fail("read", f.path, err)
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
		return 0, invalid("read", f.path, "seeking to %d, whence %d", offset, whence)
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

// ReadFile returns the whole of a file.
func (sb *Sandbox) ReadFile(ctx context.Context, path string) ([]byte, error) {
	f, err := sb.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReadRange returns length bytes of a file from offset on, or as many as there
// are; with length 0, all there are.
func (sb *Sandbox) ReadRange(ctx context.Context, path string, offset, length int64) ([]byte, error) {
	_, r, err := sb.readStream(ctx, wire.ReadRequest{Path: path, Offset: offset, Length: length})
	if err != nil {
		return nil, fail("read", path, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, fail("read", path, err)
}

// Sum is the SHA-256 of a file, in hex. It is computed here over what the
// guest sends: its processor has better things to do.
func (sb *Sandbox) Sum(ctx context.Context, path string) (string, error) {
	f, err := sb.Open(ctx, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// WriteFile replaces a file, or makes it with its parents. Readers in the
// guest see the old content or the new, never a part. A perm of 0 is 0644, or
// what the file had.
func (sb *Sandbox) WriteFile(ctx context.Context, path string, data []byte, perm fs.FileMode) error {
	_, err := sb.WriteFrom(ctx, path, bytes.NewReader(data), perm)
	return err
}

// WriteFrom is WriteFile with the content of r. When r fails the file is as it was.
func (sb *Sandbox) WriteFrom(ctx context.Context, path string, r io.Reader, perm fs.FileMode) (int64, error) {
	return sb.writeStream(ctx, wire.WriteRequest{Path: path, Mode: unixMode(perm), Parents: true}, r)
}

// AppendFile adds data to the end of a file, or makes it with its parents.
func (sb *Sandbox) AppendFile(ctx context.Context, path string, data []byte) error {
	_, err := sb.writeStream(ctx, wire.WriteRequest{Path: path, Parents: true, Append: true}, bytes.NewReader(data))
	return err
}

func (sb *Sandbox) writeStream(ctx context.Context, w wire.WriteRequest, r io.Reader) (int64, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return 0, fail("write", w.Path, err)
	}
	n, err := client.Write(ctx, w, r)
	return n, fail("write", w.Path, err)
}

// unixMode are a mode's bits as chmod has them.
func unixMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// FileWriter writes a file of a sandbox, which is as it was until Close.
type FileWriter struct {
	path string
	w    *agent.Writer
}

// Create replaces a file by what is written until Close, or makes it with its
// parents. ctx is for all of the writing. Without Close nothing changes.
func (sb *Sandbox) Create(ctx context.Context, path string) (*FileWriter, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return nil, fail("write", path, err)
	}
	w, err := client.Create(ctx, wire.WriteRequest{Path: path, Parents: true})
	if err != nil {
		return nil, fail("write", path, err)
	}
	return &FileWriter{path, w}, nil
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
		err = wire.Errorf(CodeInvalid, "the file is closed already")
	}
	return fail("write", w.path, err)
}
