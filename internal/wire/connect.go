package wire

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"time"
)

// helloEvery is how long the host waits for an answer before it says hello again.
const helloEvery = 250 * time.Millisecond

// Connect takes over rw, which leads to a guest's agent, and starts a session.
// Whatever an earlier session left in rw, whole frames or half ones, is thrown
// away, on both sides. It says hello until it is answered or ctx ends. On an
// error rw is closed. A zero h.Time is the time of saying it.
//
// A HelloReply with an Error is an answer: it is for the caller to judge.
func Connect(ctx context.Context, rw io.ReadWriteCloser, h Hello) (*Mux, HelloReply, error) {
	h.Version = Version
	session := newSession()
	m := newMux(session, true, newOutbox(rw), func() { rw.Close() })
	stop := context.AfterFunc(ctx, func() { m.fail(ctx.Err(), false) })
	answered := make(chan struct{})
	go m.greet(h, answered)

	begin := time.Now()
	r := newReader(rw)
	reply, err := awaitReply(r, session)
	close(answered)
	if !stop() {
		return nil, HelloReply{}, contextError(ctx)
	}
	if err == nil && reply.Version != Version {
		err = Errorf(Conflict, "talking to the guest: its agent speaks protocol version %d, this program %d", reply.Version, Version).
			WithHint("bandsox stop and start the sandbox: it then boots with this program's agent")
	}
	if err != nil {
		m.fail(err, false)
		var e *Error
		if !errors.As(err, &e) {
			err = Errorf(Unavailable, "talking to the guest: waiting for its agent: %v", err)
		}
		return nil, HelloReply{}, err
	}
	if h.Time.IsZero() && time.Since(begin) > helloEvery/10 {
		// The guest read a hello that lay waiting while it booted: it is told the
		// time again.
		m.out.post(true, helloFrame(h, session, 0))
	}
	go m.readHost(r)
	return m, reply, nil
}

// newSession picks a number that no other host hits upon. The guest is told it,
// so it is no secret: crypto/rand would only be a twentieth of the agent.
func newSession() uint32 {
	for {
		if n := rand.Uint32(); n != 0 {
			return n
		}
	}
}

func helloFrame(h Hello, session uint32, flags byte) *frame {
	if h.Time.IsZero() {
		h.Time = time.Now()
	}
	p, _ := json.Marshal(h)
	return &frame{typ: typeHello, flags: flags, session: session, payload: p}
}

// padFrame is as long as the longest rest of a frame that a reader can wait for.
func padFrame(session uint32) *frame {
	return &frame{typ: typePad, session: session, payload: make([]byte, maxPayload)}
}

// greet says hello until it is answered. From the second time on it adds
// padding: a reader that waits for the rest of half a frame has it then, finds
// that the checksum is wrong, and looks for the hello within.
func (m *Mux) greet(h Hello, answered <-chan struct{}) {
	m.out.post(true, helloFrame(h, m.session, 0))
	t := time.NewTicker(helloEvery)
	defer t.Stop()
	for {
		select {
		case <-answered:
			return
		case <-m.done:
			return
		case <-t.C:
		}
		if m.out.idle() { // else the last one is not even sent
			m.out.post(true, helloFrame(h, m.session, flagPad))
			m.out.post(true, padFrame(m.session))
		}
	}
}

// awaitReply ignores everything but the answer to this session's hello.
func awaitReply(r *reader, session uint32) (HelloReply, error) {
	for {
		f, _, err := r.next()
		if err != nil {
			return HelloReply{}, err
		}
		if f.typ != typeHelloReply || f.session != session {
			continue
		}
		var reply HelloReply
		if err := json.Unmarshal(f.payload, &reply); err != nil {
			return HelloReply{}, Errorf(Unavailable, "talking to the guest: reading its agent's answer: %v", err)
		}
		reply.tame()
		return reply, nil
	}
}

// readHost gives every frame to m until the session ends. Between an answered
// hello and the end of the byte stream nothing gets lost: garbage is the
// guest's doing.
func (m *Mux) readHost(r *reader) {
	for m.Err() == nil {
		f, skipped, err := r.next()
		switch {
		case err != nil:
		case skipped > 0:
			err = Errorf(Internal, "it sent %d bytes that are no frame", skipped)
		case f.session != m.session: // of the session before
		default:
			err = m.handle(&f)
		}
		if err != nil {
			m.fail(err, false)
			return
		}
	}
}
