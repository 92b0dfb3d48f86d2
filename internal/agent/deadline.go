package agent

import (
	"context"
	"net"
	"sync"
	"time"
)

// deadline is a context whose end can be moved, as a connection's deadlines
// are: who waits on it already gets the new one.
type deadline struct {
	context.Context // for Value

	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when it has passed; replaced when it is moved after that
	closed bool          // for good
}

func newDeadline() *deadline {
	return &deadline{Context: context.Background(), passed: make(chan struct{})}
}

func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

func (d *deadline) Err() error {
	select {
	case <-d.Done():
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func (d *deadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	if wait := time.Until(t); !t.IsZero() && wait <= 0 {
		d.pass()
		return nil
	}
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed
	}
	d.timer = nil
	if isDone(d.passed) {
		d.passed = make(chan struct{})
	}
	if !t.IsZero() {
		passed := d.passed
		d.timer = time.AfterFunc(time.Until(t), func() { close(passed) })
	}
	return nil
}

// close has it pass now and stay so.
func (d *deadline) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.pass()
}

// pass has it pass now; d.mu is held.
func (d *deadline) pass() {
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // it is at it
	}
	d.timer = nil
	if !isDone(d.passed) {
		close(d.passed)
	}
}

func (d *deadline) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
