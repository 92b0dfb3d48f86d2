package guest

import (
	"io"
	"sync"

	"github.com/bandsox/bandsox/internal/wire"
)

func (s *service) startAndAttach(st *wire.Stream, r *wire.StartRequest) (*wire.Control, error) {
	p, v, err := s.start(r)
	if err != nil {
		return nil, err
	}
	exit := p.attach(st, v)
	if exit == nil && r.KillOnDetach && !s.frozen() {
		p.kill()
	}
	return exit, nil
}

func (s *service) attachTo(st *wire.Stream, r *wire.AttachRequest) (*wire.Control, error) {
	p, err := s.process(r.Process)
	if err != nil {
		return nil, err
	}
	v, err := p.ring.view(r.Offset)
	if err != nil {
		return nil, err
	}
	return p.attach(st, v), nil
}

var packets = sync.Pool{New: func() any { return new(wire.Packet) }}

// attach carries v and the process's input over st. It returns the Exit, or
// nil when the host went away first.
func (p *process) attach(st *wire.Stream, v *view) *wire.Control {
	defer v.close()
	v.follow(st, p.id)
	started := wire.Started{Process: p.id, PID: p.pid, Offset: v.at}
	if st.SendControl(wire.Control{Started: &started}) != nil {
		return nil
	}
	go func() {
		p.receive(st)
		<-st.Done()
		v.close() // wakes the loop below
	}()
	for v.wait() {
		packet := packets.Get().(*wire.Packet) // none while there is nothing to say
		kind, n := v.next(packet.Data()[:chunk])
		err := st.SendPacket(kind, packet, n)
		packets.Put(packet)
		if err != nil {
			return nil
		}
	}
	select {
	case <-st.Done():
		return nil
	default:
	}
	exit := v.ring.ending()
	if exit == nil {
		return nil
	}
	return &wire.Control{Exit: exit}
}

// follow ties v to the stream that carries it.
func (v *view) follow(st *wire.Stream, id string) {
	r := v.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	v.unread = st.Unread
	v.cut = func() {
		st.Reset(wire.Errorf(wire.Exhausted, "viewing process %q: this viewer fell behind, and was waited for too long", id))
	}
	st.OnRead(func() { r.wake(v) })
}

// receive feeds the process what the host sends, until the host has no more.
func (p *process) receive(st *wire.Stream) {
	for {
		kind, b, err := st.Recv()
		if err == io.EOF {
			p.send(st, nil)
			return
		}
		if err != nil {
			return // the host went away: another may attach and go on
		}
		if kind != wire.KindControl {
			p.send(st, append(make([]byte, 0, len(b)), b...))
			continue
		}
		c, err := wire.ParseControl(b)
		switch {
		case err != nil:
			st.Reset(asError(err))
		case c.Signal != nil:
			p.signal(c.Signal.Signal, c.Signal.All)
		case c.Resize != nil:
			p.resize(*c.Resize)
		}
	}
}

// write carries what the host sends to the process. It ends the process's
// input only if the host says so: it is one viewer of several.
func (p *process) write(st *wire.Stream, end bool) (n int64, err error) {
	for {
		kind, b, err := st.Recv()
		switch {
		case err == io.EOF && !end:
			return n, nil
		case err == io.EOF:
			return n, p.send(st, nil)
		case err != nil:
			return n, err
		case kind != wire.KindData:
			return n, wire.Errorf(wire.Invalid, "writing to process %q: the host sent something else than data", p.id)
		}
		if err := p.send(st, append(make([]byte, 0, len(b)), b...)); err != nil {
			return n, err
		}
		n += int64(len(b))
	}
}

// send queues input, nil for its end, unless there will be no more use for it.
func (p *process) send(st *wire.Stream, b []byte) error {
	if p.stdin == nil && p.tty == nil {
		return wire.Errorf(wire.Conflict, "writing to process %q: it was started without an input", p.id)
	}
	ended := wire.Errorf(wire.Conflict, "writing to process %q: it has ended", p.id)
	select {
	case <-p.ended:
		return ended
	default:
	}
	if p.inputOver.Load() {
		return wire.Errorf(wire.Conflict, "writing to process %q: its input was closed", p.id)
	}
	p.inputOver.Store(b == nil && p.tty == nil)
	select {
	case p.input <- b: // before Done: what came before the host went away is for the process
		return nil
	default:
	}
	select {
	case p.input <- b:
		return nil
	case <-p.ended:
		return ended
	case <-st.Done():
		return wire.Errorf(wire.Unavailable, "writing to process %q: the host went away", p.id)
	}
}

// feed writes queued input to the process. It has a goroutine of its own, so
// that a process which doesn't read can still be signalled and resized. What
// the process no longer wants is thrown away.
func (p *process) feed() {
	w := p.stdin
	if w == nil {
		w = p.tty
	}
	for {
		select {
		case <-p.ended:
			return
		case b := <-p.input:
			if b != nil {
				w.Write(b)
			} else if p.stdin != nil {
				p.stdin.Close()
			} else { // what Ctrl-D is
				p.tty.Write(withFD(p.tty, endOfFile))
			}
		}
	}
}
