package wire

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
)

// handle takes in one frame of this session. It never blocks: it is called by
// the one reader that all streams share. An error is the peer's fault and ends
// the session.
func (m *Mux) handle(f *frame) error {
	switch f.typ {
	case typePad:
		return nil
	case typeHelloReply:
		if m.host {
			return nil // the answer to a hello that was said twice
		}
	case typePing:
		if len(f.payload) == 8 {
			return m.out.post(true, &frame{typ: typePong, session: m.session, payload: f.payload})
		}
	case typePong:
		if len(f.payload) == 8 {
			select {
			case m.pong <- binary.LittleEndian.Uint64(f.payload):
			default:
			}
			return nil
		}
	case typeOpen:
		if !m.host {
			return m.handleOpen(f)
		}
	case typeReset:
		if f.stream == 0 {
			m.fail(Errorf(Unavailable, "it ended the session: %w", decodeError(f.payload)), false)
			return nil
		}
		return m.onStream(f)
	case typeData, typeWindow, typeFin:
		return m.onStream(f)
	}
	return Errorf(Internal, "it sent a frame of type %d and %d bytes that has no meaning here", f.typ, len(f.payload))
}

// onStream gives f to its stream. One that is not there has just been closed
// here, and the peer can't know yet.
func (m *Mux) onStream(f *frame) error {
	m.mu.Lock()
	s := m.streams[f.stream]
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	switch f.typ {
	case typeData:
		return s.deliver(f)
	case typeWindow:
		return s.grant(f)
	case typeFin:
		return s.finish()
	default:
		m.remove(s)
		s.fail(decodeError(f.payload))
		return nil
	}
}

// handleOpen takes in a Request, or the next part of one.
func (m *Mux) handleOpen(f *frame) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil
	}
	r := m.partial
	switch {
	case f.flags&^flagMore != 0:
		return Errorf(Internal, "an opening with flags %#x", f.flags)
	case r != nil && f.stream == r.stream.id: // goes on
	case f.stream <= m.lastID || f.stream%2 == 0:
		if f.stream == m.lastID {
			return nil // the rest of one that was refused
		}
		return Errorf(Internal, "stream %d opened after %d", f.stream, m.lastID)
	case r != nil:
		return Errorf(Internal, "two streams opened at once")
	default:
		m.lastID = f.stream
		if len(m.streams) >= MaxStreams {
			return m.refuse(f.stream, Errorf(Exhausted, "opening a stream: %d are open", MaxStreams))
		}
		r = &request{stream: newStream(m, f.stream)}
		m.streams[f.stream] = r.stream
	}
	m.partial = nil
	if len(r.json)+len(f.payload) > maxMessage {
		return Errorf(Internal, "a request of more than %d bytes", maxMessage)
	}
	if m.waiting+len(f.payload) > maxBacklog {
		m.waiting -= len(r.json)
		delete(m.streams, f.stream)
		return m.refuse(f.stream, Errorf(Exhausted, "opening a stream: too many requests wait"))
	}
	r.json = append(r.json, f.payload...)
	m.waiting += len(f.payload)
	if f.flags&flagMore != 0 {
		m.partial = r
		return nil
	}
	m.backlog = append(m.backlog, *r)
	m.accepted.Signal()
	return nil
}

func (m *Mux) refuse(stream uint32, e *Error) error {
	return m.out.post(false, &frame{typ: typeReset, session: m.session, stream: stream, payload: encodeError(e)})
}

// ping sends one and waits for its answer; late answers to others are skipped.
func (m *Mux) ping(ctx context.Context, urgent bool) error {
	select {
	case m.pinging <- struct{}{}:
	case <-m.done:
		return m.Err()
	case <-ctx.Done():
		return contextError(ctx)
	}
	defer func() { <-m.pinging }()

	n := rand.Uint64()
	f := frame{typ: typePing, session: m.session, payload: binary.LittleEndian.AppendUint64(nil, n)}
	if err := m.post(urgent, &f); err != nil {
		return err
	}
	for {
		select {
		case got := <-m.pong:
			if got == n {
				return nil
			}
		case <-m.done:
			return m.Err()
		case <-ctx.Done():
			return contextError(ctx)
		}
	}
}
