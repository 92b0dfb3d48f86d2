package image

import (
	"context"
	"io"

	"github.com/bandsox/bandsox/internal/wire"
)

// maxHeld bounds the names and attributes that the index keeps in memory.
const maxHeld = 1 << 30

// budget counts what an image's layers spend, all together.
type budget struct {
	lim     Limits
	entries int
	bytes   int64 // as the headers declare
	raw     int64 // as the streams deliver
	held    int64
	steps   int64
}

func (b *budget) entry() error {
	b.entries++
	if b.lim.MaxEntries > 0 && b.entries > b.lim.MaxEntries {
		return wire.Errorf(wire.Exhausted, "the image has more than %d entries, the limit", b.lim.MaxEntries)
	}
	return nil
}

// step counts the ways that symbolic links among the parents of entries lead.
// A few a parent is what images need; links that multiply are there to keep
// the host busy.
func (b *budget) step() error {
	b.steps++
	if b.steps > 10e6+64*int64(b.entries) {
		return wire.Errorf(wire.Exhausted, "the image's symbolic links lead too far round, after %d steps", b.steps)
	}
	return nil
}

func (b *budget) hold(e *entry) error {
	b.bytes += e.size
	if b.lim.MaxBytes > 0 && (b.bytes < 0 || b.bytes > b.lim.MaxBytes) {
		return b.tooBig()
	}
	b.held += int64(len(e.name) + len(e.link))
	if m := e.meta; m != nil {
		b.held += int64(len(m.link))
		for k, v := range m.xattrs {
			b.held += int64(len(k) + len(v))
		}
	}
	if b.held > maxHeld {
		return wire.Errorf(wire.Exhausted, "the image's names and attributes take more than %d MiB, the limit", maxHeld>>20)
	}
	return nil
}

func (b *budget) tooBig() error {
	return wire.Errorf(wire.Exhausted, "the image unpacks to more than %s, the limit", inUnits(b.lim.MaxBytes))
}

// reader counts r's bytes. They may exceed the contents by what headers and
// padding reasonably take; more is a bomb.
func (b *budget) reader(ctx context.Context, r io.Reader) io.Reader {
	return withSeek(&countReader{ctxReader{ctx, r}, b}, r)
}

type countReader struct {
	ctxReader
	b *budget
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.ctxReader.Read(p)
	b := c.b
	b.raw += int64(n)
	if b.lim.MaxBytes > 0 && b.raw-b.lim.MaxBytes > int64(b.entries)*4096+1<<20 {
		return n, b.tooBig()
	}
	return n, err
}

// ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
