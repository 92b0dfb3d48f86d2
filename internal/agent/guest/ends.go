package guest

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// ends are the descriptors that a process starts with, and those of ours that
// no field of process holds yet.
type ends struct {
	stdio          [3]int
	stdout, stderr *os.File
}

func (e *ends) files() []uintptr {
	return []uintptr{uintptr(e.stdio[0]), uintptr(e.stdio[1]), uintptr(e.stdio[2])}
}

func (e *ends) close() {
	for i, fd := range e.stdio {
		if fd >= 0 && (i == 0 || fd != e.stdio[0]) { // a terminal is all three
			unix.Close(fd)
		}
	}
	for _, f := range []*os.File{e.stdout, e.stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// open makes the process's input and output: a terminal, or pipes.
func (p *process) open(r *wire.StartRequest, sp *spec) (*ends, error) {
	e := &ends{stdio: [3]int{-1, -1, -1}}
	var err error
	if r.TTY != nil {
		var slave int
		if p.tty, slave, err = openTerminal(*r.TTY, sp.id.uid); err != nil {
			return nil, err
		}
		e.stdio = [3]int{slave, slave, slave}
		return e, nil
	}
	var null *os.File
	stdin := &null // closed at once: the process reads the end
	if r.Stdin {
		stdin = &p.stdin
	}
	if e.stdio[0], *stdin, err = pipe(true); err == nil {
		if e.stdio[1], e.stdout, err = pipe(false); err == nil {
			e.stdio[2], e.stderr, err = pipe(false)
		}
	}
	if null != nil {
		null.Close()
		if fd, nullErr := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); nullErr == nil {
			unix.Close(e.stdio[0])
			e.stdio[0] = fd
		}
	}
	if err != nil {
		e.close()
		if p.stdin != nil {
			p.stdin.Close()
		}
		return nil, err
	}
	return e, nil
}

// pipeSize lets a program write on while the agent carries what it wrote
// before: fewer switches between the two.
const pipeSize = 256 << 10

// pipe returns the process's end, which blocks, and ours, which doesn't: the
// one to write to if input is set.
func pipe(input bool) (int, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, nil, err
	}
	theirs, ours := fds[1], fds[0]
	if input {
		theirs, ours = ours, theirs
	}
	unix.FcntlInt(uintptr(ours), unix.F_SETPIPE_SZ, pipeSize) // or it stays as it is
	if err := unix.SetNonblock(ours, true); err != nil {
		unix.Close(ours)
		unix.Close(theirs)
		return -1, nil, err
	}
	return theirs, os.NewFile(uintptr(ours), "pipe"), nil
}
