package kernel

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// maxDict bounds what an xz or zstd stream may make us allocate. Linux uses
// 32 MiB for kernels and Debian 8 MiB for packages.
const maxDict = 128 << 20

var magics = []struct{ name, magic string }{
	{"gzip", "\x1f\x8b"},
	{"bzip2", "BZh"},
	{"xz", "\xfd7zXZ\x00"},
	{"zstd", "\x28\xb5\x2f\xfd"},
	{"lz4", "\x02\x21\x4c\x18"}, // the legacy frame, which is what the kernel's build makes
	{"lzma", "\x5d\x00\x00"},
	{"lzo", "\x89LZO"},
}

// compression names the format of data that starts with head; "" = none known.
func compression(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.name
		}
	}
	return ""
}

// decompress gives the first stream in r: what follows its end is not looked
// at. Nothing known at the start means that r is given as it is. The reader's
// Close frees memory and is no judgement on the data.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch name := compression(head); name {
	case "":
		return io.NopCloser(br), nil
	case "gzip":
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(br)), nil
	case "xz":
		z, err := xz.NewReader(br, maxDict)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return io.NopCloser(z), nil
	case "zstd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDict))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "lz4":
		return io.NopCloser(lz4.NewReader(br)), nil
	default:
		return nil, fmt.Errorf("%s compression isn't supported", name)
	}
}

// bounded gives an error, not an end, when r has more than limit bytes.
func bounded(r io.Reader, limit int64) io.Reader { return &boundedReader{r, limit, limit} }

type boundedReader struct {
	r           io.Reader
	left, limit int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return 0, fmt.Errorf("more than %d bytes when decompressed", b.limit)
	}
	return n, err
}

// transfer copies, and tells a bad source, which it gives to blame, from a
// disk that won't take more.
func transfer(dst io.Writer, src io.Reader, blame func(error) error) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := src.Read(buf)
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return blame(fmt.Errorf("decompressing: %w", err))
		}
	}
}
