package monitor

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pipeSize is how much a pipe holds that nobody reads, where the host's limits
// allow it: more than its default.
const pipeSize = 256 << 10

// MakePipe makes a named pipe and opens it for a monitor to print to. The
// monitor has both ends of it, so that it never is without a reader: with nobody
// there the pipe fills up, and what doesn't fit any more is dropped. Nothing
// that is printed, however much, takes the host's disk or holds the monitor up.
func MakePipe(path string) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	return f, nil
}

// Reader reads a pipe to its end: that of the monitor.
type Reader struct {
	pipe *os.File
	done chan struct{}
}

// ReadPipe begins to read a pipe that MakePipe made, and calls take with what
// comes. The end of a pipe that no monitor has any more comes at once.
func ReadPipe(path string, take func([]byte)) (*Reader, error) {
	// The monitor's user may own the directory: what is no pipe any more isn't read.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		_ = f.Close()
		return nil, fmt.Errorf("%s is no pipe", path)
	}
	r := &Reader{pipe: f, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		buf := make([]byte, 16<<10)
		for {
			n, err := f.Read(buf)
			if n > 0 {
				take(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	return r, nil
}

// Wait returns when all has been read that a monitor which is gone has printed.
// What somebody else keeps open isn't waited for.
func (r *Reader) Wait() {
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-time.After(2 * time.Second):
	}
}

// Close stops reading.
func (r *Reader) Close() {
	if r != nil {
		_ = r.pipe.Close()
		<-r.done
	}
}

// Tail is the newest part of a text.
type Tail struct {
	mu   sync.Mutex
	text []byte
}

const tailKept = 8 << 10

// Keep adds to it.
func (t *Tail) Keep(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailKept; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
}

// String is the text as it is now.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
