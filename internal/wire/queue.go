package wire

import (
	"math/bits"
	"sync"
)

// chunk is a piece of received data. Small data frames share one.
type chunk struct {
	next *chunk
	buf  []byte
	kind Kind
	more bool // of a control message: it goes on in the next chunk
	cost int  // of the window
}

// Chunks come in powers of two, so that what a peer has sent is never held in
// much more memory than it had to pay for out of the window.
const (
	minChunkBits = 6
	maxChunkBits = 16
)

var chunks [maxChunkBits - minChunkBits + 1]sync.Pool

func newChunk(size int) *chunk {
	class := max(bits.Len(uint(max(size, 1)-1))-minChunkBits, 0)
	if c, ok := chunks[class].Get().(*chunk); ok {
		return c
	}
	return &chunk{buf: make([]byte, 0, 1<<(class+minChunkBits))}
}

func (c *chunk) free() {
	if c == nil {
		return
	}
	class := bits.Len(uint(cap(c.buf)-1)) - minChunkBits
	*c = chunk{buf: c.buf[:0]}
	chunks[class].Put(c)
}

// queue holds what was received and not yet read.
type queue struct{ head, tail *chunk }

func (q *queue) push(kind Kind, more bool, p []byte) {
	cost := headerLen + len(p)
	if t := q.tail; t != nil && kind != KindControl && t.kind == kind && len(t.buf)+len(p) <= cap(t.buf) {
		t.buf = append(t.buf, p...)
		t.cost += cost
		return
	}
	c := newChunk(len(p))
	c.buf = append(c.buf, p...)
	c.kind, c.more, c.cost = kind, more, cost
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
}

func (q *queue) pop() *chunk {
	c := q.head
	if c == nil {
		return nil
	}
	q.head = c.next
	if q.head == nil {
		q.tail = nil
	}
	c.next = nil
	return c
}

func (q *queue) drop() {
	for c := q.pop(); c != nil; c = q.pop() {
		c.free()
	}
}
