package qemu

import (
	"errors"
	"net"
	"os"

	"github.com/bandsox/bandsox/internal/vm/monitor"
)

// listen makes a socket for QEMU to inherit. It is there before QEMU is, so
// that nobody has to wait for it to appear.
func listen(dir *monitor.Dir, name string) (f *os.File, err error) {
	err = dir.At(name, func(path string) error {
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

// removeSockets takes them away when nobody listens any more.
func removeSockets(dir *monitor.Dir) error {
	var errs []error
	for _, name := range []string{qmpSocket, agentSocket} {
		err := dir.At(name, os.Remove)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
