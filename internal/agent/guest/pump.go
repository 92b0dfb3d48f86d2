package guest

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// pumpSize is what one read takes. It is also a pipe's capacity by default:
// what had been written when a process ended is at most that.
const pumpSize = 64 << 10

var pumpBuffers = sync.Pool{New: func() any { return new([pumpSize]byte) }}

// pump carries one output of a process, a pipe or a terminal, into its ring.
type pump struct {
	file *os.File
	kind wire.Kind
	ring *ring
	eof  chan struct{}

	busy atomic.Bool  // it has bytes in hand, or is about to look for some
	last atomic.Int64 // when it last had: nanoseconds since began
	read atomic.Int64 // bytes in all
}

var began = time.Now()

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
		err := raw.Read(func(fd uintptr) bool {
			p.busy.Store(true)
			buf = pumpBuffers.Get().(*[pumpSize]byte)
			for {
				n, err = unix.Read(int(fd), buf[:])
				if err != unix.EINTR {
					break
				}
			}
			if err == unix.EAGAIN {
				pumpBuffers.Put(buf)
				p.busy.Store(false)
				return false
			}
			return true
		})
		if err != nil || n <= 0 {
			return // closed by us, the end, or a terminal's EIO
		}
		p.ring.write(p.kind, buf[:n])
		pumpBuffers.Put(buf)
		p.read.Add(int64(n))
		p.last.Store(int64(time.Since(began)))
	}
}

func (p *pump) ended() bool {
	select {
	case <-p.eof:
		return true
	default:
		return false
	}
}

// quiet reports whether nothing was or is there to be read for the time d.
func (p *pump) quiet(d time.Duration) bool {
	if p.ended() {
		return true
	}
	waiting := 0
	raw, err := p.file.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), syscall.TIOCINQ) })
	}
	// In this order: bytes gone from the pipe are in the pump's hands or the ring.
	return waiting == 0 && !p.busy.Load() && int64(time.Since(began))-p.last.Load() >= int64(d)
}

const (
	grace    = 200 * time.Millisecond // of quiet, when someone still holds a pipe
	patience = time.Second            // with someone who never falls silent
)

// drain returns when everything that a process wrote before it ended is in its
// ring: every pump has reached the end, or fell silent, or has read more than
// a pipe can have held.
func drain(pumps []*pump) {
	start := time.Now()
	before := make([]int64, len(pumps))
	for i, p := range pumps {
		before[i] = p.read.Load()
	}
	for i, p := range pumps {
		for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
			spent := time.Since(start)
			if spent >= grace && p.quiet(grace) || spent >= patience && p.read.Load()-before[i] > 2*pumpSize {
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
