package bandsox

import (
	"bytes"
	"context"
	"io"
	"io/fs"

	"github.com/bandsox/bandsox/internal/wire"
)

// Stat is what is known of a file in a sandbox.
type Stat = wire.Stat

// Stat describes a file; a symbolic link itself, not what it leads to.
func (sb *Sandbox) Stat(ctx context.Context, path string) (Stat, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return Stat{}, fail("stat", path, err)
	}
	st, err := client.Stat(ctx, path)
	return st, fail("stat", path, err)
}

// OpenFile opens a file for reading. The reader holds a stream of the sandbox:
// close it.
func (sb *Sandbox) OpenFile(ctx context.Context, path string) (Stat, io.ReadCloser, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return Stat{}, nil, fail("read", path, err)
	}
	st, r, err := client.Read(ctx, wire.ReadRequest{Path: path})
	return st, r, fail("read", path, err)
}

// ReadFile returns the whole of a file.
func (sb *Sandbox) ReadFile(ctx context.Context, path string) ([]byte, error) {
	_, r, err := sb.OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, fail("read", path, err)
}

// WriteFile replaces a file, or makes it with its parents. Readers in the
// guest see the old content or the new, never a part.
func (sb *Sandbox) WriteFile(ctx context.Context, path string, data []byte, perm fs.FileMode) error {
	_, err := sb.WriteFrom(ctx, path, bytes.NewReader(data), perm)
	return err
}

// WriteFrom is WriteFile with the content of r. When r fails the file is as it was.
func (sb *Sandbox) WriteFrom(ctx context.Context, path string, r io.Reader, perm fs.FileMode) (int64, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return 0, fail("write", path, err)
	}
	n, err := client.Write(ctx, wire.WriteRequest{Path: path, Mode: uint32(perm.Perm()), Parents: true}, r)
	return n, fail("write", path, err)
}
