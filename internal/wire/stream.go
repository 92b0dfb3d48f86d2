package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"sync"
)

const (
	// window is how much of a stream may be under way or unread. A frame costs
	// its header too: many tiny ones take memory as well.
	window = 256 << 10
	// maxData makes four full frames fill a window.
	maxData = window/4 - headerLen
	// minData: with less credit than this a sender waits rather than send crumbs.
	minData = 4 << 10
	// maxMessage bounds a control message and a Request.
	maxMessage = 1 << 20
)

// Stream is one exchange on a Mux: messages in order, both ways, with a window
// for each direction. Many goroutines may send; one at a time may receive.
type Stream struct {
	m  *Mux
	id uint32

	sending chan struct{} // held while a message is sent, so that it stays whole
	credit  chan struct{} // poked when there is more to spend
	arrived chan struct{} // poked when Recv should look again
	dead    chan struct{} // closed when nothing can be sent any more

	mu       sync.Mutex
	spend    int   // what may be sent
	allowed  int   // what the peer may send
	consumed int   // read, and not yet given back to the peer
	queue    queue // received and unread
	partial  int   // length so far of the control message that is arriving
	gotFin   bool
	sentFin  bool
	err      error // the peer reset the stream, or the session ended
	closed   error // we reset or closed it

	// Of the one who receives:
	current *chunk
	message []byte
}

func newStream(m *Mux, id uint32) *Stream {
	return &Stream{
		m: m, id: id,
		sending: make(chan struct{}, 1),
		credit:  make(chan struct{}, 1),
		arrived: make(chan struct{}, 1),
		dead:    make(chan struct{}),
		spend:   window,
		allowed: window,
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Send is SendContext without an end.
func (s *Stream) Send(kind Kind, p []byte) error {
	return s.SendContext(context.Background(), kind, p)
}

// SendContext sends p, waiting while the peer's window is full. Data and
// stderr are bytes: where one Send ends and the next begins is not kept. A
// control message arrives as it was sent, and is at most 1 MiB. When ctx ends
// part of p may have been sent.
func (s *Stream) SendContext(ctx context.Context, kind Kind, p []byte) error {
	switch {
	case kind > KindControl:
		return Errorf(Invalid, "sending a message: unknown kind %d", kind)
	case kind == KindControl && len(p) > maxMessage:
		return Errorf(Invalid, "sending a message: %d bytes are more than %d", len(p), maxMessage)
	case len(p) == 0 && kind != KindControl:
		return nil
	}
	if err := s.lockSend(ctx); err != nil {
		return err
	}
	defer s.unlockSend()
	for first := true; first || len(p) > 0; first = false {
		n, err := s.take(ctx, len(p))
		if err != nil {
			return s.broken(kind, first, err)
		}
		f := frame{typ: typeData, flags: byte(kind), session: s.m.session, stream: s.id, payload: p[:n]}
		if kind == KindControl && n < len(p) {
			f.flags |= flagMore
		}
		if err := s.m.out.send(ctx, s.dead, &f); err != nil {
			return s.broken(kind, first, s.sendError(ctx, err))
		}
		p = p[n:]
	}
	return nil
}

// broken resets a stream on which half a control message was sent: what would
// follow could not be told from its other half.
func (s *Stream) broken(kind Kind, first bool, err error) error {
	if kind == KindControl && !first {
		s.Reset(Errorf(Unavailable, "half a message was sent"))
	}
	return err
}

// SendControl sends c.
func (s *Stream) SendControl(c Control) error {
	return s.SendControlContext(context.Background(), c)
}

// SendControlContext sends c.
func (s *Stream) SendControlContext(ctx context.Context, c Control) error {
	p, err := json.Marshal(c)
	if err != nil {
		return Errorf(Invalid, "encoding a message: %w", err)
	}
	return s.SendContext(ctx, KindControl, p)
}

func (s *Stream) lockSend(ctx context.Context) error {
	select {
	case s.sending <- struct{}{}:
		return nil
	case <-s.dead:
		return s.sendError(ctx, nil)
	case <-ctx.Done():
		return contextError(ctx)
	}
}

func (s *Stream) unlockSend() { <-s.sending }

// take waits for credit and spends it: the answer is how many bytes of n may go now.
func (s *Stream) take(ctx context.Context, n int) (int, error) {
	n = min(n, maxData)
	for {
		s.mu.Lock()
		if err := s.cannotSend(); err != nil {
			s.mu.Unlock()
			return 0, err
		}
		if can := s.spend - headerLen; can >= min(n, minData) {
			n = min(n, can)
			s.spend -= headerLen + n
			s.mu.Unlock()
			return n, nil
		}
		s.mu.Unlock()
		select {
		case <-s.credit:
		case <-s.dead:
		case <-ctx.Done():
			return 0, contextError(ctx)
		}
	}
}

// cannotSend says why nothing can be sent; s.mu is held.
func (s *Stream) cannotSend() error {
	switch {
	case s.closed != nil:
		return s.closed
	case s.err != nil:
		return s.err
	case s.sentFin:
		return Errorf(Invalid, "sending a message: the stream's sending side is closed")
	}
	return nil
}

// sendError is why a send failed: what is known of the stream, else err.
func (s *Stream) sendError(ctx context.Context, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why := s.cannotSend(); why != nil {
		return why
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return s.m.sessionError(err)
}

// Recv is RecvContext without an end.
func (s *Stream) Recv() (Kind, []byte, error) {
	return s.RecvContext(context.Background())
}

// RecvContext returns the next message or piece of data, valid until the next
// call. io.EOF: the peer has sent everything. An *Error: the peer reset the
// stream, or, as ErrSession, the session ended; what had arrived before comes
// first. When ctx ends nothing is lost.
func (s *Stream) RecvContext(ctx context.Context) (Kind, []byte, error) {
	s.current.free()
	s.current = nil
	for {
		c, err := s.pop()
		switch {
		case err != nil:
			return 0, nil, err
		case c == nil:
			select {
			case <-s.arrived:
			case <-ctx.Done():
				return 0, nil, contextError(ctx)
			}
		case c.more:
			s.message = append(s.message, c.buf...)
			c.free()
		case s.message != nil:
			whole := append(s.message, c.buf...)
			s.message = nil
			c.free()
			return KindControl, whole, nil
		default:
			s.current = c
			return c.kind, c.buf, nil
		}
	}
}

// pop takes the next chunk, if there is one, and lets the peer send as much again.
func (s *Stream) pop() (*chunk, error) {
	s.mu.Lock()
	if s.closed != nil {
		defer s.mu.Unlock()
		return nil, s.closed
	}
	c := s.queue.pop()
	if c == nil {
		defer s.mu.Unlock()
		if s.gotFin {
			return nil, io.EOF
		}
		return nil, s.err
	}
	s.consumed += c.cost
	back := 0
	if s.consumed >= window/4 && !s.gotFin && s.err == nil {
		back, s.consumed = s.consumed, 0
		s.allowed += back
	}
	s.mu.Unlock()
	if back > 0 {
		f := frame{typ: typeWindow, session: s.m.session, stream: s.id}
		f.payload = binary.LittleEndian.AppendUint32(nil, uint32(back))
		s.m.post(true, &f)
	}
	return c, nil
}

// CloseSend tells the peer that nothing follows. It waits for a Send that is
// under way in another goroutine.
func (s *Stream) CloseSend() error {
	if err := s.lockSend(context.Background()); err != nil {
		return err
	}
	defer s.unlockSend()
	s.mu.Lock()
	err := s.cannotSend()
	if s.sentFin {
		err = nil
	} else if err == nil {
		s.sentFin = true
		err = s.m.post(false, &frame{typ: typeFin, session: s.m.session, stream: s.id})
	}
	finished := s.sentFin && s.gotFin
	s.mu.Unlock()
	if finished {
		s.m.remove(s)
	}
	return err
}

// Reset aborts both directions; the peer's calls return e.
func (s *Stream) Reset(e *Error) {
	if e == nil {
		e = Errorf(Unavailable, "the stream was reset")
	}
	s.end(e, e)
}

// Done is closed when nothing can be sent any more: the peer reset the stream,
// the session ended, or we closed it. It tells one who has read all there was.
func (s *Stream) Done() <-chan struct{} { return s.dead }

// Close frees the stream. What was sent before CloseSend still arrives; a
// direction that is not finished is reset.
func (s *Stream) Close() error {
	s.end(Errorf(Invalid, "use of a closed stream"), nil)
	return nil
}

// end closes our side with err, and tells the peer e if it still cares.
func (s *Stream) end(err error, e *Error) {
	s.mu.Lock()
	if s.closed != nil {
		s.mu.Unlock()
		return
	}
	s.closed = err
	s.queue.drop()
	if s.err == nil {
		close(s.dead)
		if !s.sentFin || !s.gotFin {
			s.m.post(false, &frame{typ: typeReset, session: s.m.session, stream: s.id, payload: encodeError(e)})
		}
	}
	s.mu.Unlock()
	poke(s.arrived)
	s.m.remove(s)
}

// deliver queues a data frame. It does not block. An error is the peer's fault.
func (s *Stream) deliver(f *frame) error {
	kind, more := Kind(f.flags&^flagMore), f.flags&flagMore != 0
	s.mu.Lock()
	defer s.mu.Unlock()
	cost := headerLen + len(f.payload)
	switch {
	case kind > KindControl:
		return Errorf(Internal, "data of unknown kind %d", kind)
	case more && kind != KindControl, s.partial > 0 && kind != KindControl:
		return Errorf(Internal, "data inside a control message")
	case more && len(f.payload) == 0:
		return Errorf(Internal, "an empty part of a control message")
	case s.gotFin:
		return Errorf(Internal, "data after the end of a stream")
	case cost > s.allowed:
		return Errorf(Internal, "more data than the window allows")
	}
	if kind == KindControl {
		if s.partial += len(f.payload); s.partial > maxMessage {
			return Errorf(Internal, "a control message of more than %d bytes", maxMessage)
		}
		if !more {
			s.partial = 0
		}
	}
	s.allowed -= cost
	if s.closed == nil {
		s.queue.push(kind, more, f.payload)
		poke(s.arrived)
	}
	return nil
}

// grant adds to what may be sent.
func (s *Stream) grant(f *frame) error {
	if len(f.payload) != 4 {
		return Errorf(Internal, "a window of %d bytes", len(f.payload))
	}
	n := binary.LittleEndian.Uint32(f.payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || n > uint32(window-s.spend) {
		return Errorf(Internal, "a window wider than was spent")
	}
	s.spend += int(n)
	poke(s.credit)
	return nil
}

// finish handles the peer's end of stream.
func (s *Stream) finish() error {
	s.mu.Lock()
	if s.gotFin || s.partial > 0 {
		s.mu.Unlock()
		return Errorf(Internal, "the end of a stream in the wrong place")
	}
	s.gotFin = true
	finished := s.sentFin
	s.mu.Unlock()
	poke(s.arrived)
	if finished {
		s.m.remove(s)
	}
	return nil
}

// fail ends the stream with what the peer or the session's end says.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		if s.closed == nil {
			close(s.dead)
		}
	}
	s.mu.Unlock()
	poke(s.arrived)
}
