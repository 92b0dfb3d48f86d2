package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// FuzzFrame: decoding never panics nor reads beyond its input, what it takes
// is what encoding gives, and nothing can hide the frames that follow.
func FuzzFrame(f *testing.F) {
	for _, g := range goldenFrames {
		b := g.f.append(nil)
		f.Add(b)
		f.Add(b[:len(b)-1])
		f.Add(append([]byte{magic0, magic1, magic0}, b...))
	}
	f.Add(halfFrame())
	f.Fuzz(func(t *testing.T, in []byte) {
		if fr, n, ok := decode(in); ok && !bytes.Equal(fr.append(nil), in[:n]) {
			t.Errorf("%x is taken as %+v", in, fr)
		}
		hello := frame{typ: typeHello, session: 0xfeedbeef, payload: ours()}
		all := padFrame(1).append(hello.append(bytes.Clone(in)))
		r := newReader(iotest.HalfReader(bytes.NewReader(all)))
		for {
			fr, _, err := r.next()
			if err != nil {
				t.Fatalf("the hello after %x is not found: %v", in, err)
			}
			if equalFrames(fr, hello) {
				break
			}
		}
	})
}

// script is a hostile peer: fuzz bytes are read as a list of frames, most of
// them with good checksums, since a fuzzer finds no checksum by itself, and
// some raw bytes. Each step: a control byte, flags, stream, length, payload.
func script(session uint32, in []byte) (out []byte) {
	for len(in) >= 5 {
		what, flags, stream := in[0], in[1], uint32(in[2]%8)
		n := min(int(binary.LittleEndian.Uint16(in[3:])), maxPayload)
		in = in[5:]
		payload := in[:min(n, len(in))]
		in = in[len(payload):]
		if what&0x40 != 0 { // as long as it says, without a corpus of megabytes
			payload = append(bytes.Clone(payload), make([]byte, n-len(payload))...)
		}
		f := frame{typ: frameType(what % 12), flags: flags, session: session, stream: stream, payload: payload}
		switch {
		case what&0x80 == 0:
			out = f.append(out)
		case what&0x20 == 0:
			out = append(out, payload...)
		default: // half of it
			b := f.append(nil)
			out = append(out, b[:len(b)/2]...)
		}
		if len(out) > 4<<20 {
			break
		}
	}
	return out
}

// step is one step of a script.
func step(typ frameType, flags, stream byte, payload string) []byte {
	b := []byte{byte(typ), flags, stream, 0, 0}
	binary.LittleEndian.PutUint16(b[3:], uint16(len(payload)))
	return append(b, payload...)
}

func addScripts(f *testing.F) {
	for _, g := range goldenFrames {
		f.Add(step(g.f.typ, g.f.flags, byte(g.f.stream), string(g.f.payload)))
	}
	for _, c := range nonsense {
		var all []byte
		for _, g := range c.frames[:min(len(c.frames), 5)] {
			all = append(all, step(g.typ, g.flags, byte(g.stream), string(g.payload[:min(len(g.payload), 100)]))...)
		}
		f.Add(append(all, step(0x80, 0, 0, c.raw)...))
	}
	big := step(typeData|0x40, byte(KindStderr), 1, "")
	binary.LittleEndian.PutUint16(big[3:], MaxData)
	f.Add(bytes.Repeat(big, 6))
	open := step(typeOpen, 0, 1, `{"op":"start","start":{"argv":["true"]}}`)
	data := step(typeData, byte(KindControl), 1, `{"signal":{"signal":9}}`)
	f.Add(append(append(append(open, data...), step(typeFin, 0, 1, "")...), step(typeHello, 1, 0, string(ours()))...))
	f.Add(step(typeHello, 0, 0, `{"version":3}`))
}

// hostile is a byte stream whose other end has said all it will, and reads
// everything. read, if set, is what it says once it has heard something.
type hostile struct {
	mu     sync.Mutex
	heard  chan []byte
	in     io.Reader
	once   sync.Once
	script func(first []byte) []byte
	done   chan struct{}
}

func newHostile(script func(first []byte) []byte) *hostile {
	return &hostile{heard: make(chan []byte, 1), script: script, done: make(chan struct{})}
}

func (h *hostile) Read(p []byte) (int, error) {
	h.once.Do(func() {
		select {
		case first := <-h.heard:
			h.in = bytes.NewReader(h.script(first))
		case <-h.done:
			h.in = bytes.NewReader(nil)
		}
	})
	return h.in.Read(p)
}

func (h *hostile) Write(p []byte) (int, error) {
	select {
	case h.heard <- bytes.Clone(p):
	default:
	}
	return len(p), nil
}

func (h *hostile) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.done:
	default:
		close(h.done)
	}
	return nil
}

// FuzzHostReadsGuest: whatever a guest sends, the host's calls return, the
// session ends, and no more is held than the windows allow.
func FuzzHostReadsGuest(f *testing.F) {
	addScripts(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		opened := make(chan struct{})
		rw := newHostile(func(first []byte) []byte {
			hello, _, ok := decode(first)
			if !ok || hello.typ != typeHello {
				t.Errorf("first word is %x", first)
			}
			reply := frame{typ: typeHelloReply, session: hello.session, payload: ours()}
			return append(reply.append(nil), script(hello.session, in)...)
		})
		m, _, err := Connect(testContext(t), &waitsAfterReply{hostile: rw, opened: opened}, Hello{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 3 {
			s, err := m.Open(testContext(t), Request{Op: OpStats})
			if err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				wg.Go(func() { <-m.Done(); checkHeld(t, s) }) // never read
				continue
			}
			wg.Go(func() {
				defer s.Close()
				for {
					kind, p, err := s.Recv()
					if err != nil {
						return
					}
					if kind == KindControl {
						ParseControl(p)
					}
				}
			})
			wg.Go(func() { s.Send(KindData, make([]byte, 10)) })
		}
		close(opened)
		wg.Wait()
		<-m.Done()
		m.Close()
	})
}

// waitsAfterReply lets the streams be open before the script goes on.
type waitsAfterReply struct {
	*hostile
	opened <-chan struct{}
	begun  bool
}

func (w *waitsAfterReply) Read(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		// The reply alone: a header, and a payload of 13 bytes.
		return io.ReadFull(w.hostile, p[:headerLen+13])
	}
	<-w.opened
	return w.hostile.Read(p)
}

func checkHeld(t *testing.T, s *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cost, held := 0, 0
	for c := s.queue.head; c != nil; c = c.next {
		cost += c.cost
		held += cap(c.buf)
	}
	if cost > window || held > 3*window {
		t.Errorf("%d bytes held for %d of a window of %d", held, cost, window)
	}
}

// FuzzGuestReadsHost: whatever comes over the port, the server goes on, every
// call returns, and the next hello is heard.
func FuzzGuestReadsHost(f *testing.F) {
	addScripts(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		hello, _ := json.Marshal(Hello{Version: Version})
		first := frame{typ: typeHello, session: 7, payload: hello}
		mark := time.Unix(1234567890, 0)
		hello, _ = json.Marshal(Hello{Version: Version, Time: mark})
		last := frame{typ: typeHello, session: 8, payload: hello}
		all := append(first.append(nil), script(7, in)...)
		all = padFrame(8).append(last.append(all))
		rw := newHostile(func([]byte) []byte { return all })
		rw.heard <- nil

		srv := NewConnServer(rw)
		sessions := make(chan *Mux, 10)
		heard := false
		go func() {
			defer close(sessions)
			for {
				m, err := srv.Accept(func(h Hello) HelloReply {
					heard = heard || h.Time.Equal(mark)
					return HelloReply{}
				})
				if err != nil {
					return
				}
				sessions <- m
			}
		}()
		var wg sync.WaitGroup
		for m := range sessions {
			wg.Go(func() {
				for {
					s, _, err := m.Accept()
					if err != nil {
						return
					}
					wg.Go(func() { sendBack(s) })
				}
			})
		}
		wg.Wait()
		if !heard {
			t.Error("the last hello was not heard")
		}
	})
}
