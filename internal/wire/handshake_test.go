package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw speaks frames without a mux: a peer that may do anything.
type raw struct {
	t  testing.TB
	rw io.ReadWriter
	r  *reader
	id uint32
}

func newRaw(t testing.TB, rw io.ReadWriter, session uint32) *raw {
	return &raw{t: t, rw: rw, r: newReader(rw), id: session}
}

func (p *raw) send(f frame) {
	p.t.Helper()
	f.session = p.id
	if _, err := p.rw.Write(f.append(nil)); err != nil {
		p.t.Fatal(err)
	}
}

// want reads until a frame of this session and type comes.
func (p *raw) want(typ frameType) frame {
	p.t.Helper()
	for {
		f, _, err := p.r.next()
		if err != nil {
			p.t.Fatalf("waiting for a frame of type %d: %v", typ, err)
		}
		if f.typ == typ && f.session == p.id {
			return f
		}
	}
}

func (p *raw) hello(version int) HelloReply {
	p.t.Helper()
	j, _ := json.Marshal(Hello{Version: version})
	p.send(frame{typ: typeHello, payload: j})
	var reply HelloReply
	if err := json.Unmarshal(p.want(typeHelloReply).payload, &reply); err != nil {
		p.t.Fatal(err)
	}
	return reply
}

// rawGuest answers a Connect and gives both ends.
func rawGuest(t testing.TB) (*Mux, *raw) {
	t.Helper()
	a, b := socketPair(t)
	answered := make(chan *raw, 1)
	go func() {
		g := newRaw(t, b, 0)
		f, _, err := g.r.next()
		if err != nil {
			t.Error(err)
		}
		g.id = f.session
		g.send(frame{typ: typeHelloReply, payload: ours()})
		answered <- g
	}()
	m, _, err := Connect(testContext(t), a, Hello{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, <-answered
}

// rawHost has begun a session with a server; next gives the server's sessions.
func rawHost(t testing.TB) (h *raw, next <-chan *Mux) {
	t.Helper()
	a, b := socketPair(t)
	next = accept(t, NewConnServer(b))
	h = newRaw(t, a, 77)
	h.hello(Version)
	return h, next
}

// accept gives srv's sessions until its byte stream is dead.
func accept(t testing.TB, srv *Server) <-chan *Mux {
	next, ended := make(chan *Mux, 100), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := srv.Accept(testReply)
			if err != nil {
				return
			}
			next <- m
		}
	}()
	t.Cleanup(func() { srv.Close(); <-ended })
	return next
}

// echo sends back what comes on every stream of every session.
func echo(next <-chan *Mux) {
	for m := range next {
		go func() {
			for {
				s, _, err := m.Accept()
				if err != nil {
					return
				}
				go sendBack(s)
			}
		}()
	}
}

// sendBack sends back what comes on a stream, to its end.
func sendBack(s *Stream) {
	defer s.Close()
	for {
		kind, p, err := s.Recv()
		if err == io.EOF {
			s.CloseSend()
			return
		}
		if err != nil || s.Send(kind, p) != nil {
			return
		}
	}
}

// alive proves that a stream works both ways.
func alive(t *testing.T, host *Mux) {
	t.Helper()
	s, err := host.Open(testContext(t), Request{Op: OpStats})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	big := strings.Repeat("0123456789abcdef", 50<<10/16)
	go func() { s.Send(KindControl, []byte(big)); s.CloseSend() }()
	if kind, p, err := s.Recv(); err != nil || kind != KindControl || string(p) != big {
		t.Fatalf("echo: kind %d, %d bytes, %v", kind, len(p), err)
	}
	if _, _, err := s.Recv(); err != io.EOF {
		t.Fatalf("end: %v", err)
	}
}

// halfFrame is the beginning of one that will never be whole.
func halfFrame() []byte {
	f := frame{typ: typeData, session: 5, stream: 1, payload: make([]byte, maxPayload)}
	return f.append(nil)[:headerLen+100]
}

func TestConnectAfterHalfFrames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		host, guest []byte // what was written before
	}{
		{name: "from the host", host: halfFrame()},
		{name: "from the guest", guest: halfFrame()},
		{name: "both", host: halfFrame(), guest: halfFrame()},
		{name: "header only", host: halfFrame()[:headerLen], guest: halfFrame()[:headerLen-3]},
		{name: "garbage", host: []byte("login: \xb5"), guest: []byte("\xb5\x0cBooting\r\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := socketPair(t)
			a.Write(c.host)
			b.Write(c.guest)
			next := accept(t, NewConnServer(b))
			host, _, err := Connect(testContext(t), a, Hello{})
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			sessions := make(chan *Mux, 1)
			sessions <- <-next
			close(sessions)
			echo(sessions)
			alive(t, host)
		})
	}
}

// port behaves as the guest's end of a virtio-serial port: without a host
// reading gives io.EOF and writing waits; a write cut short by a host's end
// goes on with the next host.
type port struct {
	mu     sync.Mutex
	cond   sync.Cond
	conn   *os.File
	closed bool
}

func newPort() *port {
	p := &port{}
	p.cond.L = &p.mu
	return p
}

// plug is a new host's coming.
func (p *port) plug(t *testing.T) *os.File {
	a, b := socketPair(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
	p.conn = b
	p.cond.Broadcast()
	return a
}

func (p *port) Read(b []byte) (int, error) {
	p.mu.Lock()
	c, closed := p.conn, p.closed
	p.mu.Unlock()
	if closed {
		return 0, os.ErrClosed
	}
	if c == nil {
		return 0, io.EOF
	}
	n, err := c.Read(b)
	if err != nil {
		p.drop(c)
		return n, io.EOF
	}
	return n, nil
}

func (p *port) drop(c *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == c {
		c.Close()
		p.conn = nil
	}
}

func (p *port) Write(b []byte) (n int, err error) {
	for n < len(b) {
		p.mu.Lock()
		for p.conn == nil && !p.closed {
			p.cond.Wait()
		}
		c, closed := p.conn, p.closed
		p.mu.Unlock()
		if closed {
			return n, os.ErrClosed
		}
		k, err := c.Write(b[n:])
		n += k
		if err != nil {
			p.drop(c)
		}
	}
	return n, nil
}

func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.conn != nil {
		p.conn.Close()
	}
	p.cond.Broadcast()
	return nil
}

// Hosts come and go in the middle of frames, both ways; each finds a working guest.
func TestReconnect(t *testing.T) {
	p := newPort()
	next := accept(t, NewServer(p))
	for i := range 8 {
		a := p.plug(t)
		host, _, err := Connect(testContext(t), a, Hello{})
		if err != nil {
			t.Fatal(err)
		}
		guest := <-next
		one := make(chan *Mux, 1)
		one <- guest
		close(one)
		echo(one)
		alive(t, host)
		s, err := host.Open(testContext(t), Request{Op: OpStats})
		if err != nil {
			t.Fatal(err)
		}
		// Both directions are busy when the host goes.
		sent := make(chan error, 1)
		go func() {
			for {
				if err := s.Send(KindData, make([]byte, 1<<20)); err != nil {
					sent <- err
					return
				}
			}
		}()
		for range 3 {
			if _, _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			host.Close()
			if err := <-sent; !errors.Is(err, ErrSession) {
				t.Errorf("sending when the session ended: %v", err)
			}
			<-guest.Done() // it saw the end, and goes on reading
		} else {
			next := p.plug(t) // replaced at once
			next.Close()
			<-host.Done()
			<-sent
		}
		if err := guest.Err(); i%2 == 0 && (!errors.Is(err, ErrSession) || errors.Is(err, io.EOF)) {
			t.Errorf("the guest's session ended with %v", err)
		}
	}
}

// A hello in the middle of everything ends one session and starts another.
func TestHelloWhileBusy(t *testing.T) {
	h, next := rawHost(t)
	old := <-next
	for id := uint32(1); id < 20; id += 2 {
		h.send(frame{typ: typeOpen, stream: id, payload: []byte(`{"op":"stats"}`)})
		s, _, err := old.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go s.Send(KindData, make([]byte, 10<<20)) // blocks: nobody gives credit
	}
	h.want(typeData)

	before := *h
	h.id = 78
	if reply := h.hello(Version); reply.Agent != "test" {
		t.Fatalf("reply %+v", reply)
	}
	<-old.Done()
	if !errors.Is(old.Err(), ErrSession) || CodeOf(old.Err()) != Unavailable {
		t.Errorf("old session: %v", old.Err())
	}
	// The old session's frames change nothing, not even its hello.
	before.send(frame{typ: typeOpen, stream: 101, payload: []byte(`{"op":"stats"}`)})
	before.send(frame{typ: typeReset})
	h.send(frame{typ: typePing, payload: []byte("12345678")})
	if f := h.want(typePong); string(f.payload) != "12345678" {
		t.Errorf("pong %q", f.payload)
	}
	if m := <-next; m.Err() != nil {
		t.Errorf("new session: %v", m.Err())
	}
}

// A repeated hello is answered again and disturbs nothing.
func TestHelloTwice(t *testing.T) {
	h, next := rawHost(t)
	m := <-next
	h.send(frame{typ: typeOpen, stream: 1, payload: []byte(`{"op":"stats"}`)})
	s, _, err := m.Accept()
	if err != nil {
		t.Fatal(err)
	}
	h.hello(Version)
	if err := s.Send(KindData, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if f := h.want(typeData); string(f.payload) != "still here" {
		t.Errorf("got %q", f.payload)
	}
	// But not once its session is over: the host's streams would be out of step.
	h.send(frame{typ: typeWindow, stream: 1, payload: []byte("!")})
	h.want(typeReset)
	h.send(frame{typ: typeHello, payload: ours()})
	h.id++
	h.hello(Version)
	<-next
	if len(next) != 0 {
		t.Error("a dead session's hello began one")
	}
}

func TestVersionMismatch(t *testing.T) {
	h, next := rawHost(t)
	<-next
	h.id++
	reply := h.hello(Version + 1)
	if reply.Version != Version || reply.Error == nil || !strings.Contains(reply.Error.Message, fmt.Sprint("version ", Version+1)) {
		t.Errorf("a newer host is told %+v %v", reply, reply.Error)
	}
	h.id++
	h.hello(Version) // and a fitting one is served
	m := <-next
	h.hello(Version + 1) // until it is none any more
	<-m.Done()

	a, b := socketPair(t)
	go func() {
		g := newRaw(t, b, 0)
		f, _, _ := g.r.next()
		g.id = f.session
		g.send(frame{typ: typeHelloReply, payload: []byte(`{"version":9}`)})
	}()
	_, _, err := Connect(testContext(t), a, Hello{})
	if CodeOf(err) != Conflict || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("a newer agent gives %v", err)
	}
}

func TestConnectGivesUp(t *testing.T) {
	t.Parallel()
	a, _ := socketPair(t) // nobody reads
	ctx, cancel := context.WithTimeout(context.Background(), 600*time.Millisecond)
	defer cancel()
	_, _, err := Connect(ctx, a, Hello{})
	if !errors.Is(err, context.DeadlineExceeded) || CodeOf(err) != Timeout {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := a.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("left open: %v", err)
	}
	a, b := socketPair(t)
	b.Close()
	if _, _, err := Connect(testContext(t), a, Hello{}); CodeOf(err) != Unavailable || errors.Is(err, io.EOF) {
		t.Errorf("closed at once: %v", err)
	}
}

// A guest that boots reads a hello that has waited: it is told the time again.
func TestHelloTimeIsFresh(t *testing.T) {
	t.Parallel()
	a, b := socketPair(t)
	connected := make(chan *Mux, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		m, _, err := Connect(testContext(t), a, Hello{})
		if err != nil {
			t.Error(err)
		}
		connected <- m
	}()
	<-begun
	time.Sleep(2 * helloEvery) // the guest boots
	started := time.Now()
	fresh := make(chan struct{})
	var once sync.Once
	go NewConnServer(b).Accept(func(h Hello) HelloReply {
		if h.Time.After(started) {
			once.Do(func() { close(fresh) })
		}
		return HelloReply{}
	})
	m := <-connected
	select {
	case <-fresh:
	case <-testContext(t).Done():
		t.Error("it only ever heard an old time")
	}
	m.Close()
}
