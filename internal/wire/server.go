package wire

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"
)

// Server is the guest's end: one session after another on the same byte
// stream, each begun by a hello, which may come at any time, also in the
// middle of a frame of the session before.
type Server struct {
	rw    io.ReadWriter
	final bool // the end of the byte stream is the end

	start sync.Once
	next  chan *Mux
	dead  chan struct{}

	mu    sync.Mutex // guards reply and err
	reply func(Hello) HelloReply
	err   error
	write sync.Mutex // a session that ended may still be in its last write
}

// NewServer serves a virtio-serial port: reading it returns io.EOF for as long
// as no host is there, which ends the session but not the server.
func NewServer(rw io.ReadWriter) *Server {
	return &Server{rw: rw, next: make(chan *Mux, 1), dead: make(chan struct{})}
}

// NewConnServer serves a connection (a socket, a pipe): its io.EOF is the end
// of the server.
func NewConnServer(rw io.ReadWriter) *Server {
	s := NewServer(rw)
	s.final = true
	return s
}

// Accept returns the next session; an error means that the byte stream is
// dead. From the first Accept on, reply answers each hello, in the order they
// come, one at a time; the latest Accept's is used. It is called while nothing
// else is read, so it must not take long; again when a host repeats its hello,
// with the host's time then; and also for a host of another version, which
// gets no session.
func (s *Server) Accept(reply func(Hello) HelloReply) (*Mux, error) {
	s.mu.Lock()
	s.reply = reply
	s.mu.Unlock()
	s.start.Do(func() { go s.run() })
	select {
	case m := <-s.next:
		return m, nil
	case <-s.dead:
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, Errorf(Unavailable, "talking to the host: %w", s.err)
	}
}

// Close closes the byte stream, if it can be closed, which ends the server.
func (s *Server) Close() error {
	if c, ok := s.rw.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Write writes for one session at a time.
func (s *Server) Write(p []byte) (int, error) {
	s.write.Lock()
	defer s.write.Unlock()
	return s.rw.Write(p)
}

const (
	minBackOff = 10 * time.Millisecond
	maxBackOff = 100 * time.Millisecond
)

// run reads until the byte stream is dead.
func (s *Server) run() {
	var (
		m       *Mux // the latest session, if it still matters
		r       = newReader(s.rw)
		backOff = minBackOff
	)
	for {
		f, skipped, err := r.next()
		if err != nil {
			if m != nil {
				m.fail(err, false)
				m = nil
			}
			if s.final || !errors.Is(err, io.EOF) {
				s.mu.Lock()
				s.err = err
				s.mu.Unlock()
				close(s.dead)
				return
			}
			r.reset() // nobody will send the rest
			time.Sleep(backOff)
			backOff = min(2*backOff, maxBackOff)
			continue
		}
		backOff = minBackOff
		if skipped > 0 && m != nil {
			// Frames may be among what was skipped.
			m.fail(Errorf(Internal, "it sent %d bytes that are no frame", skipped), true)
		}
		switch {
		case f.typ == typeHello:
			m = s.hello(m, &f)
		case m == nil || f.session != m.session: // of a session that is over
		default:
			if err := m.handle(&f); err != nil {
				m.fail(err, true)
			}
		}
	}
}

// hello ends the session m, if there is one, and starts the next.
func (s *Server) hello(m *Mux, f *frame) *Mux {
	var h Hello
	if json.Unmarshal(f.payload, &h) != nil || f.session == 0 {
		return m
	}
	again := m != nil && m.session == f.session
	if again && m.Err() != nil {
		return m // a late copy of the hello that began a session which is over
	}
	fits := h.Version == Version
	if m != nil && (!again || !fits) {
		m.fail(errors.New("a new session began"), false)
	}
	p := s.answer(h)
	if !fits {
		refuseHello(newOutbox(s), f.session, p)
		return nil
	}
	if !again {
		m = newMux(f.session, false, newOutbox(s), nil)
	}
	m.post(true, &frame{typ: typeHelloReply, session: m.session, payload: p})
	if f.flags&flagPad != 0 {
		m.post(true, padFrame(m.session))
	}
	if !again {
		s.offer(m)
	}
	return m
}

// answer is the reply to h.
func (s *Server) answer(h Hello) []byte {
	s.mu.Lock()
	reply := s.reply
	s.mu.Unlock()
	a := reply(h)
	a.Version = Version
	if h.Version != Version {
		a.Error = Errorf(Conflict, "the host speaks protocol version %d, this agent %d", h.Version, Version)
	}
	p, err := json.Marshal(a)
	if err != nil || len(p) > maxPayload {
		p, _ = json.Marshal(HelloReply{Version: Version, Error: Errorf(Internal, "the agent's answer can't be encoded")})
	}
	return p
}

// refuseHello answers without a session.
func refuseHello(o *outbox, session uint32, reply []byte) {
	o.close(&frame{typ: typeHelloReply, session: session, payload: reply})
	go o.run()
}

// offer hands m to Accept, in place of a session that nobody has accepted yet.
func (s *Server) offer(m *Mux) {
	select {
	case <-s.next:
	default:
	}
	s.next <- m
}
