package qemu

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

// sockets are those in a machine's directory. The address of a unix socket has
// 108 bytes at most, so they are reached through a descriptor of the directory,
// however long its path is.
type sockets struct {
	mu  sync.RWMutex // or the descriptor is closed, and another's, while it is used
	dir *os.File
}

func openSockets(dir string) (*sockets, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &sockets{dir: os.NewFile(uintptr(fd), dir)}, nil
}

// at calls f with a short path of the socket.
func (s *sockets) at(name string, f func(path string) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.dir == nil {
		return os.ErrClosed
	}
	return f("/proc/self/fd/" + strconv.Itoa(int(s.dir.Fd())) + "/" + name)
}

// listen makes a socket for QEMU to inherit. It is there before QEMU is, so
// that nobody has to wait for it to appear.
func (s *sockets) listen(name string) (f *os.File, err error) {
	err = s.at(name, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		defer l.Close()
		l.SetUnlinkOnClose(false)
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		f, err = l.File()
		return err
	})
	return f, err
}

// dial connects, and tries again until ctx or gone ends.
func (s *sockets) dial(ctx context.Context, name string, gone <-chan struct{}) (net.Conn, error) {
	var d net.Dialer
	for {
		var conn net.Conn
		err := s.at(name, func(path string) (err error) {
			conn, err = d.DialContext(ctx, "unix", path)
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
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// remove takes them away when nobody listens any more.
func (s *sockets) remove() error {
	var errs []error
	for _, name := range []string{qmpSocket, agentSocket} {
		err := s.at(name, os.Remove)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *sockets) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != nil {
		_ = s.dir.Close()
		s.dir = nil
	}
}
