package image

import (
	"bufio"
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Unpacking a layer is most of Flatten's work, and it needs it twice. Up to
// keepMost bytes of layers are therefore kept unpacked in the scratch
// directory in between, if that leaves keepSpare free: the base that is being
// made must not lack the room.
const (
	keepMost  = 1 << 30
	keepSpare = 4 << 30
)

// keeper keeps unpacked layers. Whatever goes wrong, a layer that it has not
// is read anew.
type keeper struct {
	dir  string
	left int64
}

func newKeeper(dir string) *keeper {
	var st unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &st) != nil || int64(st.Bavail)*st.Bsize < keepMost+keepSpare {
		return &keeper{}
	}
	return &keeper{dir: dir, left: keepMost}
}

// unpacked is a layer that is being kept, or has been; nil if it is not.
type unpacked struct {
	k    *keeper
	f    *os.File
	w    *bufio.Writer
	size int64
}

// tee returns a reader of r that keeps what it reads. A stream that can seek is
// cheap to read again.
func (k *keeper) tee(r io.Reader) (io.Reader, *unpacked) {
	if _, ok := r.(io.Seeker); ok || k.left <= 0 {
		return r, nil
	}
	f, err := createSpool(k.dir)
	if err != nil {
		return r, nil
	}
	u := &unpacked{k: k, f: f, w: bufio.NewWriterSize(f, 256<<10)}
	return io.TeeReader(r, u), u
}

// Write never fails: what can't be kept is forgotten.
func (u *unpacked) Write(p []byte) (int, error) {
	if u.f == nil {
		return len(p), nil
	}
	u.size += int64(len(p))
	u.k.left -= int64(len(p))
	if _, err := u.w.Write(p); err != nil || u.k.left < 0 {
		u.drop()
	}
	return len(p), nil
}

// drop frees what is kept.
func (u *unpacked) drop() {
	if u == nil || u.f == nil {
		return
	}
	u.f.Close()
	u.k.left += u.size
	u.f = nil
}

// open returns the layer, from what is kept if it is, and what closes it.
func (u *unpacked) open(ctx context.Context, l Layer) (io.Reader, func() error, error) {
	if u != nil && u.f != nil && u.w.Flush() == nil {
		r := io.NewSectionReader(u.f, 0, u.size)
		return withSeek(ctxReader{ctx, r}, r), func() error { return nil }, nil
	}
	rc, err := l.Uncompressed()
	if err != nil {
		return nil, nil, err
	}
	return withSeek(ctxReader{ctx, rc}, rc), rc.Close, nil
}

// withSeek lets r seek where under can.
func withSeek(r io.Reader, under io.Reader) io.Reader {
	if s, ok := under.(io.Seeker); ok {
		return struct {
			io.Reader
			io.Seeker
		}{r, s}
	}
	return r
}
