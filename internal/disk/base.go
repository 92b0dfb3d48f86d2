package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/bandsox/bandsox/internal/wire"
)

// maxBase is the largest base there can be. It only fixes how much room is
// left for group descriptors, a hole of 256 KiB.
const maxBase = 1 << 40

// BaseOptions are BuildBase's.
type BaseOptions struct {
	// Progress is told of the bytes read, every 50 ms at most, and at the
	// end. Total is what it is told of the end, zero when unknown.
	Progress func(what string, done, total int64)
	Total    int64
}

// BuildBase writes the files of a tar stream, such as image.Flatten's, into a
// read-only ext4 file system of just the size they need, and gives it its name
// when it is safely on disk. Equal streams give equal bytes, so that it does
// not matter which of two concurrent builds of one path is last.
//
// Kept are modes, owners, devices, hard links, modification times from 1901 to
// 2446 to the nanosecond (from 2310 to 2378 to the second), POSIX ACLs and the xattrs user, trusted and security
// (4 KiB a file). An xattr of another kind, or of overlayfs itself, is
// dropped. Runs of zeros become holes. Every base has a directory lost+found:
// e2fsck wants one.
//
// It stops when ctx ends, but can't abort a Read of r that blocks: that is for
// r's owner.
func BuildBase(ctx context.Context, path string, r io.Reader, o BaseOptions) error {
	const doing = "building the base" // the path means nothing to who reads it
	t, err := newTemp(path)
	if err != nil {
		return failed(err, path, "%s", doing)
	}
	defer t.discard()

	in := &meter{r: r, ctx: ctx, o: o}
	src := newSource(bufio.NewReaderSize(in, 256<<10))
	out := &sparseFile{f: t.File, ctx: ctx}
	err = convert(src, out)
	if err == nil {
		err = out.finish(src.identity())
	}
	if err == nil {
		err = t.publish(publish{mode: 0o444, durable: true, replace: true})
	} else if out.err == nil {
		return in.failed(err, doing)
	} else {
		err = out.err
	}
	if err != nil {
		return failed(pathless(err), path, "%s", doing)
	}
	in.report()
	return nil
}

// pathless is err without the temporary file's name.
func pathless(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	case errors.As(err, &le):
		return fmt.Errorf("%s: %w", le.Op, le.Err)
	}
	return err
}

// convert runs the ext4 writer. It is not ours and panics when it is at its
// limits; source keeps those away from it, as far as they are known.
func convert(src *source, out *sparseFile) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("writing ext4: %v", p)
		}
	}()
	return tar2ext4.ConvertTarToExt4(src, out, tar2ext4.MaximumDiskSize(maxBase))
}

// meter reads the input, counts it, and remembers how it failed.
type meter struct {
	r    io.Reader
	ctx  context.Context
	o    BaseOptions
	n    int64
	last time.Time
	err  error
}

func (m *meter) Read(p []byte) (int, error) {
	if m.err = m.ctx.Err(); m.err != nil {
		return 0, m.err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	if err != nil && err != io.EOF {
		m.err = err
	}
	if now := time.Now(); now.Sub(m.last) >= 50*time.Millisecond {
		m.last = now
		m.report()
	}
	return n, err
}

func (m *meter) report() {
	if m.o.Progress != nil {
		m.o.Progress("building base", m.n, m.o.Total)
	}
}

// failed names the cause of err: whoever made the stream, or what is in it.
func (m *meter) failed(err error, doing string) error {
	if m.err == nil {
		var e *wire.Error
		if errors.As(err, &e) {
			return &wire.Error{Code: e.Code, Message: doing + ": " + err.Error(), Hint: e.Hint, Err: err}
		}
		return wire.Errorf(wire.Invalid, "%s: %w", doing, err)
	}
	out := wire.Errorf(wire.CodeOf(m.err), "%s: %w", doing, m.err)
	var e *wire.Error
	if errors.As(m.err, &e) {
		out.Hint = e.Hint
	} else if m.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, m.err)
	}
	return out
}
