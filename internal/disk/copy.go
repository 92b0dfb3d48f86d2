package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Copy makes dst the same as src, sharing its blocks where the file system can
// and skipping its holes where it can't. It refuses to replace a file. Nobody
// may write to src meanwhile.
func Copy(ctx context.Context, dst, src string) error {
	doing := fmt.Sprintf("copying disk %q to %q", src, dst)
	in, err := os.Open(src)
	if err != nil {
		return failed(err, src, "%s", doing)
	}
	defer in.Close()
	st, err := in.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "copy", Path: src, Err: errors.New("not a regular file")}
	}
	if err == nil {
		err = absent(dst)
	}
	if err != nil {
		return failed(err, dst, "%s", doing)
	}
	t, err := newTemp(dst)
	if err != nil {
		return failed(err, dst, "%s", doing)
	}
	defer t.discard()
	if unix.IoctlFileClone(int(t.Fd()), int(in.Fd())) != nil {
		err = copyData(ctx, t.File, in, st.Size())
	}
	if err == nil {
		err = t.publish(publish{mode: st.Mode().Perm()})
	}
	if err != nil {
		return failed(err, dst, "%s", doing)
	}
	return nil
}

// copyChunk bounds what is copied between two looks at the context.
const copyChunk = 64 << 20

func copyData(ctx context.Context, dst, src *os.File, size int64) error {
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		end := size
		if err == nil {
			end, err = unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE)
		}
		if err != nil { // no holes on this file system, or not to be found
			start, end = at, size
		}
		for start < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := copyRange(dst, src, start, min(end-start, copyChunk))
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			start += n
		}
		at = end
	}
	return nil
}

// copyRange copies up to n bytes, in the kernel if it can.
func copyRange(dst, src *os.File, at, n int64) (int64, error) {
	from, to := at, at
	got, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(n), 0)
	switch {
	case err == nil && got > 0:
		return int64(got), nil
	case err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP),
		errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM), errors.Is(err, unix.EINTR):
		return io.Copy(io.NewOffsetWriter(dst, at), io.NewSectionReader(src, at, n))
	}
	return 0, os.NewSyscallError("copy_file_range", err)
}
