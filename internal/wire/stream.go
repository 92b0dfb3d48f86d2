package wire

import "sync"

const (
	// window is how much of a stream may be under way or unread. A frame costs
	// its header too: many tiny ones take memory as well.
	window = 1 << 20
	// MaxData is how much of a stream one frame carries: a full frame is of a power
	// of two, as pipes and ports have it.
	MaxData = 64<<10 - headerLen
	// minData: with less credit than this a sender waits rather than send crumbs.
	minData = 4 << 10
	// maxMessage bounds a control message and a Request.
	maxMessage = 1 << 20
)

// Stream is one exchange on a Mux: messages in order, both ways, with a window
// for each direction. Many goroutines may send; one at a time may receive.
type Stream struct {
	m    *Mux
	id   uint32
	idle bool // it is no use of the guest: see Mux.Busy

	sending chan struct{} // held while a message is sent, so that it stays whole
	credit  chan struct{} // poked when there is more to spend
	arrived chan struct{} // poked when Recv should look again
	dead    chan struct{} // closed when nothing can be sent any more

	mu       sync.Mutex
	spend    int    // what may be sent
	onRead   func() // see OnRead
	allowed  int    // what the peer may send
	consumed int    // read, and not yet given back to the peer
	queue    queue  // received and unread
	partial  int    // length so far of the control message that is arriving
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

// Reset aborts both directions; the peer's calls return e.
func (s *Stream) Reset(e *Error) {
	if e == nil {
		e = Errorf(Unavailable, "the stream was reset")
	}
	s.end(e, e)
}

// Unread is how much of what was sent the peer has not said that it read. It
// is an upper bound: headers count, and a peer says so only now and then.
func (s *Stream) Unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return window - s.spend
}

// OnRead has f called when Unread became less. f must not block.
func (s *Stream) OnRead(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRead = f
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
