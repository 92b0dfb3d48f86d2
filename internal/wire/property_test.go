package wire

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// chopped reads a socket in pieces of odd sizes.
type chopped struct {
	*os.File
	rnd *rand.Rand
	max int
}

func (c chopped) Read(p []byte) (int, error) {
	return c.File.Read(p[:min(len(p), 1+c.rnd.IntN(c.max))])
}

type message struct {
	Kind Kind
	Data []byte
}

func drawMessages(t *rapid.T, name string) []message {
	size := rapid.OneOf(
		rapid.IntRange(0, 300),
		rapid.IntRange(MaxData-30, maxPayload+30),
		rapid.IntRange(0, maxMessage),
	)
	kinds := rapid.SampledFrom([]Kind{KindData, KindStderr, KindControl})
	all := make([]message, rapid.IntRange(0, 8).Draw(t, name+" messages"))
	for i := range all {
		n := size.Draw(t, "size")
		b := pattern(n)
		if n > 0 {
			b[0] = byte(i)
		}
		all[i] = message{kinds.Draw(t, "kind"), b}
	}
	return all
}

// merged is what a reader must see: runs of bytes of one kind, and control
// messages each for itself.
func merged(all []message) (out []message) {
	for _, m := range all {
		last := len(out) - 1
		switch {
		case m.Kind != KindControl && len(m.Data) == 0:
		case m.Kind != KindControl && last >= 0 && out[last].Kind == m.Kind:
			out[last].Data = append(out[last].Data, m.Data...)
		default:
			out = append(out, message{m.Kind, bytes.Clone(m.Data)})
		}
	}
	return out
}

// talk sends what is to be sent, and compares what comes.
func talk(s *Stream, send, want []message) error {
	var got []message
	sent := make(chan error, 1)
	go func() {
		for _, m := range send {
			if err := s.Send(m.Kind, m.Data); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend()
	}()
	for {
		kind, p, err := s.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		got = append(got, message{kind, bytes.Clone(p)})
	}
	if err := <-sent; err != nil {
		return err
	}
	got, want = merged(got), merged(want)
	if len(got) != len(want) {
		return fmt.Errorf("%d messages came, not %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Kind != want[i].Kind || !bytes.Equal(got[i].Data, want[i].Data) {
			return fmt.Errorf("message %d: kind %d, %d bytes; want kind %d, %d bytes", i, got[i].Kind, len(got[i].Data), want[i].Kind, len(want[i].Data))
		}
	}
	return nil
}

// Whatever is sent on any number of streams at once, both ways, arrives whole,
// in order and on its own stream, however the byte stream is chopped up.
func TestEverythingArrives(t *testing.T) {
	if testing.Short() && flag.Lookup("rapid.checks").Value.String() == "100" {
		flag.Set("rapid.checks", "15")
		defer flag.Set("rapid.checks", "100")
	}
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		chop := rapid.SampledFrom([]int{40, 3000, maxFrame, 4 * maxFrame})
		a, b := socketPair(t)
		defer a.Close()
		defer b.Close()
		srv := NewConnServer(chopped{b, rand.New(rand.NewPCG(seed, 0)), chop.Draw(rt, "guest reads")})
		accepted := make(chan *Mux, 1)
		go func() {
			m, _ := srv.Accept(testReply)
			accepted <- m
		}()
		host, _, err := Connect(testContext(t), chopped{a, rand.New(rand.NewPCG(seed, 1)), chop.Draw(rt, "host reads")}, Hello{})
		if err != nil {
			rt.Fatal(err)
		}
		defer host.Close()
		guest := <-accepted

		var wg sync.WaitGroup
		errs := make(chan error, 100)
		for i := range rapid.IntRange(1, 5).Draw(rt, "streams") {
			toGuest, toHost := drawMessages(rt, "host"), drawMessages(rt, "guest")
			h, err := host.Open(testContext(t), Request{Op: OpStats})
			if err != nil {
				rt.Fatal(err)
			}
			g, _, err := guest.Accept()
			if err != nil {
				rt.Fatal(err)
			}
			wg.Go(func() {
				if err := talk(h, toGuest, toHost); err != nil {
					errs <- fmt.Errorf("stream %d on the host: %w", i, err)
				}
			})
			wg.Go(func() {
				if err := talk(g, toHost, toGuest); err != nil {
					errs <- fmt.Errorf("stream %d on the guest: %w", i, err)
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			rt.Error(err)
		}
		// A reader learns of the end a moment before its mux forgets the stream.
		for range 1000 {
			if open(host)+open(guest) == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		rt.Errorf("%d and %d streams left", open(host), open(guest))
	})
}
