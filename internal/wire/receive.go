package wire

import (
	"context"
	"encoding/binary"
	"io"
)

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
