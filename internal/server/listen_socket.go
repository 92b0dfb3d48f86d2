package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// ListenSocket listens on a socket that only its owner may open, and removes it
// when it is closed. One that a killed server has left is replaced; one that
// somebody listens on is a conflict.
func ListenSocket(path string) (net.Listener, error) {
	// The path is given as one of this process: a socket's address is short.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "listening on %s: %w", path, err)
	}
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	l, err := listenUnix(name)
	if errors.Is(err, unix.EADDRINUSE) {
		if err = removeStale(path, name); err == nil {
			l, err = listenUnix(name)
		}
	}
	if err != nil {
		dir.Close()
		if wire.CodeOf(err) == wire.Conflict {
			return nil, err
		}
		return nil, wire.Errorf(wire.Unavailable, "listening on %s: %w", path, err)
	}
	return &ownSocket{UnixListener: l, dir: dir, name: name}, nil
}

func listenUnix(name string) (*net.UnixListener, error) {
	// A socket's file gets the mode of the socket, so it never has another.
	c := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := c.Listen(context.Background(), "unix", name)
	if err != nil {
		return nil, err
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	return u, nil
}

func removeStale(path, name string) error {
	if info, err := os.Lstat(name); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return wire.Errorf(wire.Conflict, "%s is in the way: it is no socket", path).WithHint("rm %s", path)
	}
	c, err := net.Dial("unix", name)
	if err == nil {
		c.Close()
		return wire.Errorf(wire.Conflict, "another server listens on %s", path).WithHint("end it, or name another directory with --storage")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(name)
}

// ownSocket is a listener that removes its file, through the directory that it
// was made in, wherever that is now.
type ownSocket struct {
	*net.UnixListener
	dir  *os.File
	name string
	once sync.Once
}

func (s *ownSocket) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		_ = os.Remove(s.name)
		err = errors.Join(s.UnixListener.Close(), s.dir.Close())
	})
	return err
}
