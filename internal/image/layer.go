package image

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// blob is one layer where it is kept.
type blob struct {
	name   string  // for errors
	diffID v1.Hash // of the tar stream inside, the content's one true name
	size   int64   // as it is kept
	open   func(context.Context) (io.ReadCloser, error)

	// remote blobs are downloaded once, the others opened anew each time.
	// open then checks the digest of what it sends.
	remote bool
}

// layer is a blob that can be read many times, however far away it is.
type layer struct {
	blob
	scratch  string
	seen     func(n int64) // told of bytes downloaded; negative when they were in vain
	verified atomic.Bool   // its content has once been read whole and found right

	mu   sync.Mutex
	file *os.File // a remote blob's bytes
}

const downloadTries = 3 // times a download is tried

// downloadPause comes before the second try, four times as much before the
// third. Tests, whose registries have nothing to recover from, shorten it.
var downloadPause = 300 * time.Millisecond

// fetch downloads a remote blob, if that has not been done.
func (l *layer) fetch(ctx context.Context) error {
	if !l.remote {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		return nil
	}
	for try := 1; ; try++ {
		var got int64
		f, err := l.download(ctx, func(n int64) { got += n; l.seen(n) })
		if err == nil {
			l.file = f
			return nil
		}
		l.seen(-got)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if try == downloadTries || wire.CodeOf(err) != wire.Unavailable {
			return err
		}
		if try > 1 && errors.Is(err, &stalledError{}) {
			return err // someone has waited long enough
		}
		select {
		case <-time.After(downloadPause << (2 * (try - 1))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *layer) download(ctx context.Context, seen func(int64)) (*os.File, error) {
	rc, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	f, err := spool(ctx, l.scratch, rc, l.size, seen)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || st.Size() != l.size {
		f.Close()
		return nil, wire.Errorf(wire.Invalid, "downloading layer %s: the manifest's size of %d bytes is wrong", l.name, l.size)
	}
	return f, nil
}

// compressed opens the blob, which must have been fetched if it is remote.
func (l *layer) compressed(ctx context.Context) (io.ReadCloser, error) {
	if !l.remote {
		return l.open(ctx)
	}
	return io.NopCloser(io.NewSectionReader(l.file, 0, l.size)), nil
}

func (l *layer) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	defer func() { l.file = nil }()
	return l.file.Close()
}

// boundLayer is a layer as Flatten wants it.
type boundLayer struct {
	ctx context.Context
	*layer
	fetched func() error // waits for the download
}

func (l boundLayer) String() string { return l.name }

// Uncompressed opens the layer's tar stream. Reading it to its end
// checks it against the digest in the config.
func (l boundLayer) Uncompressed() (io.ReadCloser, error) {
	if err := l.fetched(); err != nil {
		return nil, err
	}
	rc, err := l.compressed(l.ctx)
	if err != nil {
		return nil, err
	}
	plain, err := decompress(rc)
	if err != nil {
		rc.Close()
		return nil, wire.Errorf(wire.Invalid, "%w", err)
	}
	r := &layerReader{l: l.layer, ctx: l.ctx, plain: plain, under: rc}
	if !l.verified.Load() {
		if r.sum, err = v1.Hasher(l.diffID.Algorithm); err != nil {
			r.Close()
			return nil, wire.Errorf(wire.Invalid, "%w", err)
		}
	}
	return r, nil
}

type layerReader struct {
	l     *layer
	ctx   context.Context
	plain io.ReadCloser
	under io.Closer
	sum   hash.Hash // nil once verified: hashing again would find nothing new
	err   error
}

func (r *layerReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.plain.Read(p)
	if r.sum != nil {
		r.sum.Write(p[:n])
	}
	if err != nil {
		r.err = r.ended(err)
	}
	return n, r.err
}

func (r *layerReader) ended(err error) error {
	if err != io.EOF {
		var coded *wire.Error
		if errors.As(err, &coded) || r.ctx.Err() != nil {
			return err
		}
		return wire.Errorf(wire.Invalid, "%w", err)
	}
	if r.sum == nil {
		return io.EOF
	}
	got := v1.Hash{Algorithm: r.l.diffID.Algorithm, Hex: hex.EncodeToString(r.sum.Sum(nil))}
	if got != r.l.diffID {
		return wire.Errorf(wire.Invalid, "its content has digest %s, the config says %s", got, r.l.diffID)
	}
	r.l.verified.Store(true)
	return io.EOF
}

func (r *layerReader) Close() error {
	r.plain.Close()
	return r.under.Close()
}

// maxWindow bounds the memory that a zstd frame may ask for.
const maxWindow = 128 << 20

// decompress looks at the bytes, not at a media type, which is often wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case isGzip(magic):
		return gzip.NewReader(br)
	case isZstd(magic):
		d, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

func isCompressed(magic []byte) bool { return isGzip(magic) || isZstd(magic) }

func isGzip(magic []byte) bool { return bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) }

// isZstd knows a frame, and a skippable frame, which some tools put first.
func isZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}
