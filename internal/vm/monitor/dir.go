package monitor

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is a machine's directory with its sockets. The address of a unix socket
// has 108 bytes at most, so they are reached through a descriptor of the
// directory, however long its path is.
type Dir struct {
	mu  sync.RWMutex // or the descriptor is closed, and another's, while it is used
	dir *os.File
}

// OpenDir opens a directory.
func OpenDir(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{dir: os.NewFile(uintptr(fd), path)}, nil
}

// At calls f with a short path of what is in it.
func (d *Dir) At(name string, f func(path string) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.dir == nil {
		return os.ErrClosed
	}
	return f("/proc/self/fd/" + strconv.Itoa(int(d.dir.Fd())) + "/" + name)
}

// Dial connects to a socket, and tries again until ctx or gone ends.
func (d *Dir) Dial(ctx context.Context, name string, gone <-chan struct{}) (net.Conn, error) {
	var dialer net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		var conn net.Conn
		err := d.At(name, func(path string) (err error) {
			conn, err = dialer.DialContext(ctx, "unix", path)
			return err
		})
		if err == nil || errors.Is(err, os.ErrClosed) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-gone:
			return nil, err
		case <-time.After(pause):
		}
	}
}

// Close lets go of the directory.
func (d *Dir) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dir != nil {
		_ = d.dir.Close()
		d.dir = nil
	}
}
