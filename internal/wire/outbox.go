package wire

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
)

// outbox is the one writer of a session. Frames are copied into it, so that
// nobody who sends is ever stuck in a write that can't be interrupted, and
// leave together: urgent ones first, then bulk in the order of asking. A
// stream has at most one frame waiting, so that order is round robin.
type outbox struct {
	w io.Writer

	mu      sync.Mutex
	wake    sync.Cond
	urgent  []byte // whole frames
	bulk    []byte // whole frames
	waiting []*waiter
	writing bool  // run is
	through bool  // a sender is, in run's place
	failed  error // of a write in run's place
	closed  bool
}

// waiter is a frame that found no room. Whoever empties the outbox copies it.
type waiter struct {
	head    [headerLen]byte
	payload []byte
	sent    chan struct{}
}

const (
	bulkLimit = 2 * maxFrame // data waits for room beyond this
	hardLimit = 4 << 20      // what can't wait ends the session beyond this
)

var (
	errOutboxClosed = errors.New("session ended")
	errOutboxFull   = errors.New("the other side does not read")
)

func newOutbox(w io.Writer) *outbox {
	o := &outbox{w: w}
	o.wake.L = &o.mu
	return o
}

// send queues f as bulk, waiting for room until ctx or abort ends.
func (o *outbox) send(ctx context.Context, abort <-chan struct{}, f *frame) error {
	head := f.header() // checksums outside the lock
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return errOutboxClosed
	}
	if len(o.waiting) == 0 && o.fits(len(f.payload)) {
		o.bulk = append(append(o.bulk, head[:]...), f.payload...)
		o.wake.Broadcast()
		o.mu.Unlock()
		return nil
	}
	w := &waiter{head: head, payload: f.payload, sent: make(chan struct{})}
	o.waiting = append(o.waiting, w)
	o.mu.Unlock()

	var err error
	select {
	case <-w.sent:
		return nil
	case <-abort:
		err = errOutboxClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.waiting, w)
	if i < 0 && !o.closed {
		return nil // it left while we gave up
	}
	if i >= 0 {
		o.waiting = slices.Delete(o.waiting, i, i+1)
	}
	return err
}

// writeThrough writes a whole frame from where it lies, in the caller's
// goroutine, when everything before it has been written. It saves a copy and
// two switches of goroutines; the caller is stuck in it for as long as the other
// side does not read.
func (o *outbox) writeThrough(b []byte) error {
	o.mu.Lock()
	for !o.closed && o.failed == nil && (o.writing || o.through || o.queued()) {
		o.wake.Wait()
	}
	if o.closed || o.failed != nil {
		defer o.mu.Unlock()
		return cmp.Or(o.failed, errOutboxClosed)
	}
	o.through = true
	o.mu.Unlock()

	err := writeWhole(o.w, b)

	o.mu.Lock()
	defer o.mu.Unlock()
	o.through = false
	o.failed = err
	o.wake.Broadcast()
	return err
}

// queued says that there is something for run to write.
func (o *outbox) queued() bool { return len(o.urgent)+len(o.bulk)+len(o.waiting) > 0 }

func writeWhole(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

func (o *outbox) fits(payload int) bool {
	return len(o.bulk)+headerLen+payload <= bulkLimit
}

// post queues f without waiting: behind all bulk, or if urgent before it.
func (o *outbox) post(urgent bool, f *frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := &o.bulk
	if urgent {
		q = &o.urgent
	}
	switch {
	case o.closed:
		return errOutboxClosed
	case len(*q) > hardLimit:
		return errOutboxFull
	}
	*q = f.append(*q)
	o.wake.Broadcast()
	return nil
}

// idle says that everything queued was written.
func (o *outbox) idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.writing && !o.through && !o.queued()
}

// close lets run end: at once, or, when there is a last frame, after it and
// what was queued before it.
func (o *outbox) close(last *frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	o.waiting = nil
	if last != nil {
		o.bulk = last.append(o.bulk)
	} else {
		o.urgent, o.bulk = nil, nil
	}
	o.wake.Broadcast()
}

// run writes until close or an error.
func (o *outbox) run() error {
	var urgent, bulk []byte
	for {
		o.mu.Lock()
		if o.writing {
			o.writing = false
			o.wake.Broadcast()
		}
		for o.through || len(o.urgent)+len(o.bulk) == 0 {
			if err := o.failed; err != nil {
				o.mu.Unlock()
				return err
			}
			if o.closed && !o.through {
				o.mu.Unlock()
				return nil
			}
			o.wake.Wait()
		}
		o.writing = true
		urgent, o.urgent = o.urgent, keep(urgent)
		bulk, o.bulk = o.bulk, keep(bulk)
		o.admit()
		o.mu.Unlock()

		for _, b := range [...][]byte{urgent, bulk} {
			if len(b) == 0 {
				continue
			}
			if err := writeWhole(o.w, b); err != nil {
				return err
			}
		}
	}
}

// admit copies the frames that wait into the room there is now.
func (o *outbox) admit() {
	for len(o.waiting) > 0 && o.fits(len(o.waiting[0].payload)) {
		w := o.waiting[0]
		o.waiting[0] = nil
		o.waiting = o.waiting[1:]
		o.bulk = append(append(o.bulk, w.head[:]...), w.payload...)
		close(w.sent)
	}
}

// keep empties b for use again, unless a burst made it big.
func keep(b []byte) []byte {
	if cap(b) > 2*bulkLimit {
		return nil
	}
	return b[:0]
}
