package qemu

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm/monitor"
)

// stderrKept is how much of QEMU's own messages is kept: the newest.
const stderrKept = 4 << 10

// stderrTail reads QEMU's messages from a pipe. No file holds them: a guest can
// make some devices complain without end.
type stderrTail struct {
	pipe *os.File
	done chan struct{}

	mu   sync.Mutex
	text []byte
}

// newStderr makes the pipe. QEMU's end never blocks it: what nobody reads is
// dropped, and without us it is told that nobody is there.
func newStderr() (*stderrTail, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return tailOf(os.NewFile(uintptr(fds[0]), "stderr")), os.NewFile(uintptr(fds[1]), "stderr"), nil
}

// reopenStderr takes up the pipe of a QEMU that another process started. A
// kernel or a user that doesn't let us costs the messages and no more.
func reopenStderr(pid int) *stderrTail {
	fd, err := unix.Open(monitor.ProcPath(pid, "fd/2"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		_ = unix.Close(fd)
		return nil
	}
	return tailOf(os.NewFile(uintptr(fd), "stderr"))
}

func tailOf(pipe *os.File) *stderrTail {
	t := &stderrTail{pipe: pipe, done: make(chan struct{})}
	go t.read()
	return t
}

func (t *stderrTail) read() {
	defer close(t.done)
	buf := make([]byte, stderrKept)
	for {
		n, err := t.pipe.Read(buf)
		t.mu.Lock()
		t.text = append(t.text, buf[:n]...)
		if over := len(t.text) - stderrKept; over > 0 {
			t.text = append(t.text[:0], t.text[over:]...)
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// String is the text as it is now, without QEMU's name before each line.
func (t *stderrTail) String() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.text)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "qemu-system-"+guest.qemu+": "); ok {
			line = rest
		}
		// What a CPU of an older QEMU lacks is no news.
		if line != "" && !strings.HasPrefix(line, "warning: TCG doesn't support requested feature") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// wait returns when QEMU and so the pipe's other end is gone.
func (t *stderrTail) wait() {
	if t != nil {
		<-t.done
	}
}

// Close stops reading.
func (t *stderrTail) Close() {
	if t != nil {
		_ = t.pipe.Close()
		<-t.done
	}
}
