package guest

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const pumpSize = chunk // what one read takes

var pumpBuffers = sync.Pool{New: func() any { return new([pumpSize]byte) }}

// pump carries one output of a process, a pipe or a terminal, into its ring.
type pump struct {
	file *os.File
	kind wire.Kind
	ring *ring
	eof  chan struct{}

	mu      sync.Mutex
	taken   int64     // bytes read
	written int64     // bytes in the ring
	last    time.Time // when there were some
}

func startPump(f *os.File, kind wire.Kind, r *ring) *pump {
	p := &pump{file: f, kind: kind, ring: r, eof: make(chan struct{})}
	go p.run()
	return p
}

// run goes on after the process has ended and its Exit was told, for as long as
// something that it started holds the other end: a server left in the
// background must not die of writing its log.
func (p *pump) run() {
	defer close(p.eof)
	defer p.file.Close()
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		var buf *[pumpSize]byte // only while there is something to read: idle processes cost none
		n := 0
		waitErr := raw.Read(func(fd uintptr) bool {
			buf = pumpBuffers.Get().(*[pumpSize]byte)
			n, err = p.take(int(fd), buf[:])
			if err == unix.EAGAIN {
				pumpBuffers.Put(buf)
			}
			return err != unix.EAGAIN
		})
		if waitErr != nil || err != nil || n == 0 {
			return // closed by us, a terminal's EIO, the end
		}
		p.ring.write(p.kind, buf[:n])
		pumpBuffers.Put(buf)
		p.mu.Lock()
		p.written += int64(n)
		p.last = time.Now()
		p.mu.Unlock()
	}
}

// take reads what there is, without waiting.
func (p *pump) take(fd int, buf []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			p.taken += int64(max(n, 0))
			return n, err
		}
	}
}

// sofar is how much has been written to the other end until now.
func (p *pump) sofar() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := withFD(p.file, func(fd int) int {
		n, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
		return n
	})
	return p.taken + int64(waiting)
}

// reached reports whether n bytes are in the ring, and since when nothing came.
func (p *pump) reached(n int64) (bool, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written >= n, time.Since(p.last)
}

const (
	grace    = 200 * time.Millisecond // of quiet, when someone still holds a pipe
	patience = time.Second            // with someone who never falls silent
)

// drain returns when everything that a process wrote before it ended is in its
// ring. It waits for the end of every pipe, but not for long when something
// that the process left in the background holds it.
func drain(pumps []*pump) {
	start := time.Now()
	owed := make([]int64, len(pumps))
	for i, p := range pumps {
		owed[i] = p.sofar()
	}
	for i, p := range pumps {
		for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
			all, quiet := p.reached(owed[i])
			spent := time.Since(start)
			if all && (spent >= patience || spent >= grace && quiet >= grace) {
				break
			}
			select {
			case <-p.eof:
			case <-time.After(wait):
				continue
			}
			break
		}
	}
}
