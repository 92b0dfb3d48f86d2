package wire

import (
	"io"
	"net"
	"testing"
)

func BenchmarkRoundTrip(b *testing.B) {
	host, guest := session(b)
	benchRoundTrip(b, host, guest)
}

// BenchmarkRoundTripBusy is the same beside a stream that is always full.
func BenchmarkRoundTripBusy(b *testing.B) {
	host, guest := session(b)
	h, g := pair(b, host, guest)
	go func() {
		for g.Send(KindData, make([]byte, 1<<20)) == nil {
		}
	}()
	go receive0(h)
	benchRoundTrip(b, host, guest)
}

func receive0(s *Stream) {
	for {
		if _, _, err := s.Recv(); err != nil {
			return
		}
	}
}

func benchRoundTrip(b *testing.B, host, guest *Mux) {
	h, g := pair(b, host, guest)
	go func() {
		for {
			kind, p, err := g.Recv()
			if err != nil || g.Send(kind, p) != nil {
				return
			}
		}
	}()
	msg := make([]byte, 100)
	for b.Loop() {
		if err := h.Send(KindControl, msg); err != nil {
			b.Fatal(err)
		}
		if _, _, err := h.Recv(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRawRoundTrip is what the sockets alone take.
func BenchmarkRawRoundTrip(b *testing.B) {
	x, y := socketPair(b)
	go io.CopyBuffer(struct{ io.Writer }{y}, struct{ io.Reader }{y}, make([]byte, 4096))
	msg := make([]byte, 100)
	for b.Loop() {
		if _, err := x.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x, msg); err != nil {
			b.Fatal(err)
		}
	}
	y.Close()
}

func BenchmarkOpen(b *testing.B) {
	host, guest := session(b)
	go func() {
		for {
			s, _, err := guest.Accept()
			if err != nil {
				return
			}
			s.SendControl(Control{Done: &Done{}})
			s.CloseSend()
			s.Close()
		}
	}()
	ctx := testContext(b)
	for b.Loop() {
		s, err := host.Open(ctx, Request{Op: OpStats})
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := s.Recv(); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkToGuest(b *testing.B) {
	host, guest := session(b)
	h, g := pair(b, host, guest)
	benchBulk(b, h, g)
}

func BenchmarkToHost(b *testing.B) {
	host, guest := session(b)
	h, g := pair(b, host, guest)
	benchBulk(b, g, h)
}

func benchBulk(b *testing.B, from, to *Stream) {
	const size = 1 << 20
	buf := make([]byte, size)
	done := make(chan int)
	go func() {
		n := 0
		for {
			_, p, err := to.Recv()
			if n += len(p); err != nil {
				done <- n
				return
			}
		}
	}()
	b.SetBytes(size)
	b.ReportAllocs()
	sent := 0
	for b.Loop() {
		if err := from.Send(KindData, buf); err != nil {
			b.Fatal(err)
		}
		sent += size
	}
	from.CloseSend()
	if got := <-done; got != sent {
		b.Fatalf("%d of %d bytes arrived", got, sent)
	}
}

// BenchmarkRawBulk is what the sockets alone carry, a frame in a write: in one
// piece, copied into one as the outbox does, or gathered from two by writev.
func BenchmarkRawBulk(b *testing.B) {
	head, payload, frame := make([]byte, headerLen), make([]byte, maxPayload), make([]byte, 0, maxFrame)
	for _, c := range []struct {
		name  string
		write func(net.Conn) error
	}{
		{"one", func(c net.Conn) error { _, err := c.Write(payload); return err }},
		{"copied", func(c net.Conn) error {
			_, err := c.Write(append(append(frame, head...), payload...))
			return err
		}},
		{"writev", func(c net.Conn) error {
			_, err := (&net.Buffers{head, payload}).WriteTo(c)
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			x, y := socketPair(b)
			conn, err := net.FileConn(x)
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan bool)
			go func() {
				buf := make([]byte, readBuffer)
				for {
					if _, err := y.Read(buf); err != nil {
						close(done)
						return
					}
				}
			}()
			b.SetBytes(maxPayload)
			for b.Loop() {
				if err := c.write(conn); err != nil {
					b.Fatal(err)
				}
			}
			conn.Close()
			x.Close()
			<-done
		})
	}
}
