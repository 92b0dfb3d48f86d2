package bandsox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"

	"github.com/bandsox/bandsox/internal/transfer"
	"github.com/bandsox/bandsox/internal/wire"
)

// Stat is what is known of a file in a sandbox.
type Stat = wire.Stat

// Stat describes a file; a symbolic link itself, not what it leads to.
func (sb *Sandbox) Stat(ctx context.Context, path string) (Stat, error) {
	if path == "" {
		return Stat{}, invalid("stat", path, "the path is empty")
	}
	client, err := sb.reading(ctx)
	if err != nil {
		return Stat{}, fail("stat", path, err)
	}
	st, err := client.Stat(ctx, path)
	return st, fail("stat", path, err)
}

// File is a file of a sandbox, open for reading: an io.Reader, io.ReaderAt,
// io.Seeker, io.WriterTo and io.Closer. It has one stream at a time: a Seek
// elsewhere ends it and the next Read opens another. One goroutine may use it at
// a time, but ReadAt has a stream of its own.
type File = transfer.File

// Open opens a regular file of the sandbox for reading. ctx is for all of the
// reading. What is read lies in the guest until then; close the file.
func (sb *Sandbox) Open(ctx context.Context, path string) (*File, error) {
	return sb.side().Open(ctx, path)
}

func (sb *Sandbox) side() *transfer.Side {
	return &transfer.Side{Remote: remote{sb}, ID: sb.id, Fail: fail}
}

// remote is a sandbox's agent, or the view of its disk, as it is now.
type remote struct{ sb *Sandbox }

func (r remote) Read(ctx context.Context, q wire.ReadRequest) (Stat, io.ReadCloser, error) {
	if q.Path == "" {
		return Stat{}, nil, wire.Errorf(CodeInvalid, "the path is empty")
	}
	client, err := r.sb.reading(ctx)
	if err != nil {
		return Stat{}, nil, err
	}
	return client.Read(ctx, q)
}

func (r remote) Write(ctx context.Context, q wire.WriteRequest, src io.Reader) (int64, error) {
	client, err := r.sb.running(ctx)
	if err != nil {
		return 0, err
	}
	return client.Write(ctx, q, src)
}

func (r remote) Resume(ctx context.Context, q wire.WriteRequest, open func(have int64) (io.Reader, error)) (int64, error) {
	client, err := r.sb.running(ctx)
	if err != nil {
		return 0, err
	}
	return client.Resume(ctx, q, open)
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
	_, r, err := remote{sb}.Read(ctx, wire.ReadRequest{Path: path, Offset: offset, Length: length})
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
	return sb.writeStream(ctx, wire.WriteRequest{Path: path, Mode: transfer.ModeBits(perm), Parents: true}, r)
}

// AppendFile adds data to the end of a file, or makes it with its parents.
func (sb *Sandbox) AppendFile(ctx context.Context, path string, data []byte) error {
	_, err := sb.writeStream(ctx, wire.WriteRequest{Path: path, Parents: true, Append: true}, bytes.NewReader(data))
	return err
}

func (sb *Sandbox) writeStream(ctx context.Context, w wire.WriteRequest, r io.Reader) (int64, error) {
	n, err := remote{sb}.Write(ctx, w, r)
	return n, fail("write", w.Path, err)
}

// WriteOptions are how Write writes. The zero value replaces the file.
type WriteOptions struct {
	Perm   fs.FileMode // 0: 0644, or what the file had
	Owner  string      // name, uid, name:group or uid:gid; empty: root, or what the file had
	Append bool        // add to its end instead
	New    bool        // a file that is there already is a conflict, and stays
	// Partial names what is written, in up to 64 letters and digits. What has come
	// of it when the writing breaks is kept for a day, and the next Write with the
	// same name goes on behind it: r must be an io.Seeker, and is asked to go there.
	Partial string
}

// Write is WriteFrom with options. It returns the length of what was written:
// with Partial, the file's.
func (sb *Sandbox) Write(ctx context.Context, path string, r io.Reader, o WriteOptions) (int64, error) {
	w := wire.WriteRequest{Path: path, Mode: transfer.ModeBits(o.Perm), User: o.Owner, Append: o.Append, New: o.New, Partial: o.Partial, Parents: true}
	if o.Partial == "" {
		return sb.writeStream(ctx, w, r)
	}
	seeker, ok := r.(io.Seeker)
	if !ok || o.Append {
		return 0, invalid("write", path, "a part of a file needs a reader that can seek, and replaces the file")
	}
	n, err := remote{sb}.Resume(ctx, w, func(have int64) (io.Reader, error) {
		_, err := seeker.Seek(have, io.SeekStart)
		return r, err
	})
	return n, fail("write", path, err)
}

// FileWriter writes a file of a sandbox, which is as it was until Close.
type FileWriter = transfer.FileWriter

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
	return sb.side().Writer(path, w), nil
}
