package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// path is where a path of the guest's really is: itself, in a guest. A
// relative one is taken from the root, where processes start.
func (s *service) path(p string) string {
	return filepath.Join("/", s.cfg.Root, filepath.Join("/", p))
}

// fileError says what went wrong with a file of the guest, with its class.
func fileError(doing, path string, err error) error {
	code := wire.Internal
	if errors.Is(err, errNotRegular) {
		code = wire.Invalid
	}
	for _, c := range []struct {
		code wire.Code
		errs []error
	}{
		{wire.NotFound, []error{fs.ErrNotExist}},
		{wire.Denied, []error{fs.ErrPermission, syscall.EROFS}},
		{wire.Conflict, []error{syscall.EEXIST, syscall.ENOTEMPTY, syscall.EBUSY, syscall.ETXTBSY}},
		{wire.Exhausted, []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}},
		{wire.Unavailable, []error{syscall.EAGAIN}},
		{wire.Invalid, []error{
			syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.ENAMETOOLONG, syscall.ELOOP,
			syscall.ENXIO, syscall.ENOTSUP, syscall.EXDEV,
		}},
	} {
		for _, e := range c.errs {
			if errors.Is(err, e) {
				code = c.code
			}
		}
	}
	if len(path) > maxQuoted {
		path = path[:maxQuoted/2] + "…" + path[len(path)-maxQuoted/2:]
	}
	return wire.Errorf(code, "%s %q: %w", doing, path, cause(err))
}

// maxQuoted keeps what is wrong with a path from being lost behind it.
const maxQuoted = 512

// cause is err without the operation and path that package os adds.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}

var errNotRegular = wire.Errorf(wire.Invalid, "not a regular file")

// openRegular opens a regular file to read. It looks first: opening a device
// can do things, and a fifo would wait.
func openRegular(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return nil, syscall.EISDIR
	}
	if !fi.Mode().IsRegular() {
		return nil, errNotRegular
	}
	fd, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// open opens without waiting: O_NONBLOCK says so to fifos, devices and files
// like /proc/kmsg. For a regular file it changes nothing.
func open(path string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
