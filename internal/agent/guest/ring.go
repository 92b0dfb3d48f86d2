package guest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	ringLimit = 512 << 10 // bytes of output kept for one process
	ringFirst = 4 << 10   // what a ring starts with, and may always have
	ringRuns  = 4096      // changes between stdout and stderr kept
)

// budget bounds what all rings together may hold: a guest program that floods
// its output must not eat the guest's memory through the agent.
type budget struct {
	used  atomic.Int64
	limit int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) <= b.limit {
		return true
	}
	b.used.Add(int64(-n))
	return false
}

// ring holds the newest output of one process, stdout and stderr in the order
// they were read, each byte at an offset that never changes.
//
// While somebody views it, write waits for the slowest viewer, so nobody loses
// a byte; while nobody does, the oldest bytes are overwritten.
type ring struct {
	mu       sync.Mutex
	cond     sync.Cond
	budget   *budget
	patience time.Duration
	buf      []byte // circular: the byte of offset o is at o & (len-1)
	start    int64  // offset of the oldest byte kept
	end      int64  // offset of the next byte
	runs     []run  // oldest first; the last one ends at end
	views    map[*view]struct{}
	viewed   int        // how often somebody came to view it
	exit     *wire.Exit // set by finish: nothing follows
}

// run is a stretch of bytes of one kind, up to the offset end.
type run struct {
	kind wire.Kind
	end  int64
}

func newRing(b *budget) *ring {
	r := &ring{budget: b, patience: viewPatience, views: map[*view]struct{}{}}
	r.cond.L = &r.mu
	return r
}

// write adds p. It waits while a viewer has not read what p would overwrite.
// After finish it drops p.
func (r *ring) write(kind wire.Kind, p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		if r.exit != nil {
			return
		}
		r.grow(len(p))
		n := min(len(p), len(r.buf))
		if len(r.views) > 0 {
			n = min(n, r.room(kind))
			if n <= 0 {
				r.await(kind)
				continue
			}
		}
		r.add(kind, p[:n])
		p = p[n:]
		r.cond.Broadcast()
	}
}

func (r *ring) newRun(kind wire.Kind) bool {
	return len(r.runs) == 0 || r.runs[len(r.runs)-1].kind != kind
}

// add stores p, which fits the buffer, over the oldest bytes.
func (r *ring) add(kind wire.Kind, p []byte) {
	if r.newRun(kind) {
		if len(r.runs) >= ringRuns {
			r.start = max(r.start, r.runs[0].end)
		}
		r.runs = append(r.runs, run{kind: kind})
	}
	at := int(r.end) & (len(r.buf) - 1)
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.end += int64(len(p))
	r.runs[len(r.runs)-1].end = r.end
	r.start = max(r.start, r.end-int64(len(r.buf)))
	old := 0
	for r.runs[old].end <= r.start && old < len(r.runs)-1 {
		old++
	}
	r.runs = r.runs[old:]
}

// grow makes room for n more bytes, as far as limit and budget allow.
func (r *ring) grow(n int) {
	used := int(r.end - r.start)
	size := max(len(r.buf), ringFirst)
	for size < used+n && size < ringLimit {
		size *= 2
	}
	if size == len(r.buf) {
		return
	}
	for !r.budget.take(size - len(r.buf)) {
		if size == ringFirst { // every process may have this much
			r.budget.used.Add(int64(size - len(r.buf)))
			break
		}
		if size /= 2; size <= len(r.buf) {
			return
		}
	}
	r.resize(size)
}

// resize moves what is kept into a buffer of size bytes, a power of two.
func (r *ring) resize(size int) {
	buf := make([]byte, size)
	for o := r.start; o < r.end; {
		from := r.buf[int(o)&(len(r.buf)-1):]
		from = from[:min(len(from), int(r.end-o))]
		n := copy(buf[int(o)&(size-1):], from)
		o += int64(n)
	}
	r.buf = buf
}

// finish ends the output. What is kept stays readable, in no more memory than
// it needs.
func (r *ring) finish(exit *wire.Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exit = exit
	size := 1
	for size < int(r.end-r.start) {
		size *= 2
	}
	if size < len(r.buf) {
		r.budget.used.Add(int64(size - len(r.buf)))
		r.resize(size)
	}
	r.cond.Broadcast()
}

// drop forgets what is kept, unless somebody is reading it.
func (r *ring) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.views) > 0 {
		return
	}
	r.budget.used.Add(-int64(len(r.buf)))
	r.buf, r.runs, r.start = nil, nil, r.end
	r.cond.Broadcast()
}

func (r *ring) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.buf)
}

// describe fills in what the ring knows of a process.
func (r *ring) describe(p *wire.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Oldest, p.Output, p.Viewers = r.start, r.end, len(r.views)
}

// ending is the exit that finish was given, or nil.
func (r *ring) ending() *wire.Exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exit
}
