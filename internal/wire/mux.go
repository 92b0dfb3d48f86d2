package wire

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

const (
	// MaxStreams is how many streams a session has open at once.
	MaxStreams = 1024
	// maxBacklog bounds the bytes of requests that nobody has accepted yet.
	maxBacklog = 16 << 20
	// lastWords is how long is read on after writing failed.
	lastWords = time.Second
)

// ErrSession is what every call on a session returns when the session has
// ended: the guest or its host went away, broke the protocol, or began anew.
// Test for it with errors.Is; the error itself says why.
var ErrSession = Errorf(Unavailable, "the session ended")

// Mux is one session: streams over one byte stream. It is safe for many goroutines.
type Mux struct {
	session uint32
	host    bool
	out     *outbox
	onEnd   func() // closes the byte stream, where that is ours

	opening chan struct{} // held while a Request is sent, so that it stays whole
	pinging chan struct{} // held while a ping is under way
	pong    chan uint64

	mu       sync.Mutex
	streams  map[uint32]*Stream
	inUse    int       // of streams, those that are a use of the guest
	usedTill time.Time // when the last of them went
	lastID   uint32
	accepted sync.Cond
	backlog  []request
	waiting  int      // bytes in backlog and partial
	partial  *request // its frames are arriving
	err      error
	done     chan struct{}
}

// request is a stream that nobody has accepted yet.
type request struct {
	stream *Stream
	json   []byte
}

func newMux(session uint32, host bool, out *outbox, onEnd func()) *Mux {
	m := &Mux{
		session: session, host: host, out: out, onEnd: onEnd,
		opening: make(chan struct{}, 1),
		pinging: make(chan struct{}, 1),
		pong:    make(chan uint64, 1),
		streams: make(map[uint32]*Stream),
		done:    make(chan struct{}),
	}
	m.accepted.L = &m.mu
	go func() {
		if err := out.run(); err != nil {
			// The other side is gone, but what it said last, an Exit perhaps, may
			// still be there to read: the reader will find the end.
			out.close(nil)
			time.AfterFunc(lastWords, func() { m.fail(err, false) })
		}
	}()
	return m
}

// Done is closed when the session has ended, and all its streams with it:
// nothing can be sent any more.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Err says why the session ended; nil while it lives.
func (m *Mux) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close ends the session and all its streams. On the host it closes the byte
// stream; on the guest it tells the host and keeps the byte stream for the
// next session.
func (m *Mux) Close() error {
	m.fail(errors.New("closed"), !m.host)
	return nil
}

// fail ends the session. tell: say why to the peer.
func (m *Mux) fail(cause error, tell bool) {
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = m.sessionError(cause)
	err, streams := m.err, m.streams
	m.streams, m.backlog, m.partial = nil, nil, nil
	m.accepted.Broadcast()
	m.mu.Unlock()

	for _, s := range streams {
		s.fail(err)
	}
	close(m.done) // only now: who saw it must not send on a stream that lives
	var last *frame
	if tell {
		last = &frame{typ: typeReset, session: m.session, payload: encodeError(Errorf(Unavailable, "%v", cause))}
	}
	m.out.close(last)
	if m.onEnd != nil {
		m.onEnd()
	}
}

// sessionError is an ErrSession that says why. The cause is text only: an
// io.EOF in the chain would look like the good end of a stream.
func (m *Mux) sessionError(cause error) error {
	peer := "host"
	if m.host {
		peer = "guest"
	}
	if cause == nil {
		cause = errOutboxClosed
	}
	e := Errorf(Unavailable, "talking to the %s: %v", peer, cause)
	e.Err = ErrSession
	return e
}

// contextError is why a call gave up when ctx did.
func contextError(ctx context.Context) error {
	code := Unavailable
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = Timeout
	}
	return Errorf(code, "waiting for the other side: %w", ctx.Err())
}

// post queues a frame that can't wait; a peer that does not read for so long
// that there is no room for it loses the session.
func (m *Mux) post(urgent bool, f *frame) error {
	err := m.out.post(urgent, f)
	if err == nil {
		return nil
	}
	if err == errOutboxFull {
		go m.fail(err, false) // the caller may hold a stream's lock
	}
	return m.sessionError(err)
}

// Open starts a stream for r. Only the host opens streams.
func (m *Mux) Open(ctx context.Context, r Request) (*Stream, error) {
	p, err := json.Marshal(r)
	switch {
	case !m.host:
		return nil, Errorf(Internal, "opening a stream: only the host does")
	case err != nil:
		return nil, Errorf(Invalid, "opening a stream: %w", err)
	case len(p) > maxMessage:
		return nil, Errorf(Invalid, "sending a %s request: its %d bytes (arguments, environment, paths) are more than %d", r.Op, len(p), maxMessage)
	}
	select {
	case m.opening <- struct{}{}:
	case <-m.done:
		return nil, m.Err()
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
	defer func() { <-m.opening }()

	s, err := m.newHostStream(r.Op)
	if err != nil {
		return nil, err
	}
	for first := true; first || len(p) > 0; first = false {
		n := min(len(p), maxPayload)
		f := frame{typ: typeOpen, session: m.session, stream: s.id, payload: p[:n]}
		if n < len(p) {
			f.flags = flagMore
		}
		if err := m.out.send(ctx, m.done, &f); err != nil {
			err = s.sendError(ctx, err)
			if first {
				m.remove(s)
			} else {
				s.Close()
			}
			return nil, err
		}
		p = p[n:]
	}
	return s, nil
}

func (m *Mux) newHostStream(op Op) (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return nil, m.err
	case len(m.streams) >= MaxStreams:
		return nil, Errorf(Exhausted, "opening a stream: %d are open", MaxStreams)
	case m.lastID >= 1<<32-2:
		return nil, Errorf(Unavailable, "opening a stream: this session has used up its numbers")
	}
	if m.lastID == 0 {
		m.lastID = 1
	} else {
		m.lastID += 2
	}
	s := newStream(m, m.lastID)
	m.streams[s.id] = s
	if s.idle = op.idle(); !s.idle {
		m.inUse++
	}
	return s, nil
}

// idle reports whether a stream is no use of the guest: it only looks, or is
// the host's own business.
func (op Op) idle() bool {
	return op == OpStats || op == OpProcesses || op == OpFollow || op == OpIdentity || op == OpFreeze
}

// Busy reports whether a stream is open that is a use of the guest, and since
// when none is: the zero time if there never was one.
func (m *Mux) Busy() (busy bool, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inUse > 0, m.usedTill
}

// Accept returns the next stream that the host opens, and what for. An error
// is the session's end.
func (m *Mux) Accept() (*Stream, Request, error) {
	for {
		m.mu.Lock()
		for len(m.backlog) == 0 && m.err == nil {
			m.accepted.Wait()
		}
		if m.err != nil {
			defer m.mu.Unlock()
			return nil, Request{}, m.err
		}
		r := m.backlog[0]
		m.backlog[0] = request{}
		m.backlog = m.backlog[1:]
		m.waiting -= len(r.json)
		m.mu.Unlock()

		var req Request
		if err := json.Unmarshal(r.json, &req); err != nil {
			r.stream.Reset(Errorf(Invalid, "reading a request: %v", err))
			continue
		}
		return r.stream, req, nil
	}
}

func (m *Mux) remove(s *Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.host && m.streams[s.id] == s && !s.idle {
		m.inUse--
		m.usedTill = time.Now()
	}
	delete(m.streams, s.id)
	if m.partial != nil && m.partial.stream == s {
		m.waiting -= len(m.partial.json)
		m.partial = nil
	}
}

// Ping asks the other side's mux for an answer, past all queues here.
func (m *Mux) Ping(ctx context.Context) error { return m.ping(ctx, true) }

// Flush waits until the other side's mux has taken in what was sent so far.
func (m *Mux) Flush(ctx context.Context) error { return m.ping(ctx, false) }

// Flush is the Flush of the stream's session.
func (s *Stream) Flush(ctx context.Context) error { return s.m.Flush(ctx) }
