package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
)

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
	return s.send(ctx, kind, p)
}

// SendPacket is Send of the first n bytes of p's data. On the guest it copies
// nothing where it can.
func (s *Stream) SendPacket(kind Kind, p *Packet, n int) error {
	ctx := context.Background()
	if kind >= KindControl || s.m.host || n == 0 {
		return s.Send(kind, p.Data()[:n])
	}
	if err := s.lockSend(ctx); err != nil {
		return err
	}
	defer s.unlockSend()
	k, err := s.take(ctx, n)
	if err != nil {
		return err
	}
	f := frame{typ: typeData, flags: byte(kind), session: s.m.session, stream: s.id, payload: p.Data()[:k]}
	head := f.header()
	copy(p.buf[:], head[:])
	if err := s.m.out.writeThrough(p.buf[:headerLen+k]); err != nil {
		return s.sendError(ctx, err)
	}
	if k == n {
		return nil
	}
	return s.send(ctx, kind, p.Data()[k:n])
}

// send sends p in as many frames as it takes; the caller holds sending.
func (s *Stream) send(ctx context.Context, kind Kind, p []byte) error {
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
	n = min(n, MaxData)
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

// grant adds to what may be sent.
func (s *Stream) grant(f *frame) error {
	if len(f.payload) != 4 {
		return Errorf(Internal, "a window of %d bytes", len(f.payload))
	}
	n := binary.LittleEndian.Uint32(f.payload)
	s.mu.Lock()
	if n == 0 || n > uint32(window-s.spend) {
		s.mu.Unlock()
		return Errorf(Internal, "a window wider than was spent")
	}
	s.spend += int(n)
	onRead := s.onRead
	s.mu.Unlock()
	poke(s.credit)
	if onRead != nil {
		onRead()
	}
	return nil
}
