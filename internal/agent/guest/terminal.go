package guest

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// ttyGroup owns terminals by convention: write(1) and wall(1) are setgid to it.
const ttyGroup = 5

// openTerminal makes a terminal of the given size, owned by uid, and returns
// both its ends: ours, and the fd that becomes the process's.
func openTerminal(size wire.Size, uid uint32) (*os.File, int, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, -1, err
	}
	fail := func(err error) (*os.File, int, error) {
		unix.Close(fd)
		return nil, -1, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fail(err)
	}
	// By ioctl, not by name: what's mounted on /dev/pts is the guest's affair.
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fail(errno)
	}
	slave := int(r)
	if os.Geteuid() == 0 {
		unix.Fchown(slave, int(uid), ttyGroup)
	}
	unix.Fchmod(slave, 0o620)
	if err := setSize(fd, size); err != nil {
		unix.Close(slave)
		return fail(err)
	}
	return os.NewFile(uintptr(fd), "terminal"), slave, nil
}

func setSize(fd int, size wire.Size) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
}

// endOfFile is what ends the input of a program that reads lines from the
// terminal: nothing when it doesn't.
func endOfFile(fd int) []byte {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil || t.Lflag&unix.ICANON == 0 {
		return nil
	}
	return []byte{t.Cc[unix.VEOF]}
}
