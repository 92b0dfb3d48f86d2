package wire

import (
	"io"
	"os"
	"syscall"
	"testing"
)

func BenchmarkRoundTrip(b *testing.B) {
	host, guest := session(b)
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

// BenchmarkRawBulk is what the sockets alone carry, in writes of the given
// size, in one piece or gathered from two.
func BenchmarkRawBulk(b *testing.B) {
	for _, c := range []struct {
		name  string
		write func(*os.File, []byte, []byte) error
	}{
		{"one64K", func(f *os.File, _, p []byte) error { _, err := f.Write(p[:maxFrame]); return err }},
		{"one128K", func(f *os.File, _, p []byte) error { _, err := f.Write(p); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			x, y := socketPair(b)
			done := make(chan bool)
			go func() {
				io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{y}, make([]byte, readBuffer))
				close(done)
			}()
			p := make([]byte, 2*maxFrame)
			size := maxFrame
			if c.name == "one128K" {
				size = 2 * maxFrame
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := c.write(x, nil, p); err != nil {
					b.Fatal(err)
				}
			}
			syscall.Shutdown(int(x.Fd()), syscall.SHUT_WR)
			x.Close()
			<-done
		})
	}
}
