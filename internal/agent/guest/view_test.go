package guest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bandsox/bandsox/internal/wire"
)

func mustView(t interface{ Fatal(...any) }, r *ring, offset int64) *view {
	v, err := r.view(offset)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestViewers has viewers come, read, die with some of it unread, and come
// again where they stopped, at random, while a process writes. Nothing is gone
// that a host had not received when it died; whoever says where it stopped gets
// every byte after it once, or is told how many are gone since.
func TestViewers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRing(&budget{limit: 1 << 30})
		byteAt := func(o int64) byte { return byte(o*7 + o>>8) }
		var wrote int64
		write := func(n int) {
			p := make([]byte, n)
			for i := range p {
				p[i] = byteAt(wrote + int64(i))
			}
			wrote += int64(n)
			r.write(wire.Kind(n%2), p)
		}
		type host struct {
			v        *view
			sent     int64        // by the view
			received int64        // by the host, which then dies
			unread   atomic.Int64 // as the stream counts it: late, in lumps
		}
		hosts := make([]*host, 3)
		buf := make([]byte, chunk)
		read := func(h *host) {
			if h.v.at == r.end {
				return
			}
			_, n := h.v.next(buf)
			for i, b := range buf[:n] {
				if want := byteAt(h.sent + int64(i)); b != want {
					t.Fatalf("at %d: %d, want %d", h.sent+int64(i), b, want)
				}
			}
			h.sent += int64(n)
			h.unread.Add(int64(n))
		}
		acknowledge := func(h *host) { // some of what was sent arrived; the guest may not know
			h.received += (h.sent - h.received) * int64(rapid.IntRange(0, 4).Draw(t, "quarters")) / 4
			if lag := h.sent - h.received; h.unread.Load() > lag && (rapid.Bool().Draw(t, "told") || h.unread.Load()-lag > 256<<10) {
				h.unread.Store(lag)
				r.wake(h.v)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, len(hosts)-1).Draw(t, "who")
			h := hosts[i]
			switch what := rapid.SampledFrom([]string{"write", "read", "ack", "die", "attach"}).Draw(t, "what"); {
			case what == "write":
				n := rapid.IntRange(1, chunk).Draw(t, "n")
				for _, h := range hosts { // the test is one thread: make room first
					for h != nil && h.v != nil && h.v.room(wire.Kind(n%2)) < n && (h.v.at < r.end || h.unread.Load() > 0) {
						read(h)
						h.received = h.sent
						h.unread.Store(0)
					}
				}
				write(n)
			case h == nil || h.v == nil && what == "attach":
				h2 := &host{}
				if h != nil {
					h2.received = h.received
				}
				h2.v = mustView(t, r, h2.received)
				h2.v.unread = func() int { return int(h2.unread.Load()) }
				if want := max(h2.received, wrote-ringLimit); h2.v.at != want {
					t.Fatalf("attached at %d, want %d", h2.v.at, want)
				}
				h2.sent, h2.received = h2.v.at, h2.v.at
				hosts[i] = h2
			case h.v == nil:
			case what == "read":
				read(h)
			case what == "ack":
				acknowledge(h)
			case what == "die":
				if r.start > h.received {
					t.Fatalf("a host dies %d bytes behind, and %d of them are gone", wrote-h.received, r.start-h.received)
				}
				h.v.close()
				h.v = nil
			}
		}
	})
}

// TestSlowViewerIsCutOff has one viewer stop reading: it is cut off, the other
// one and the process go on and lose nothing.
func TestSlowViewerIsCutOff(t *testing.T) {
	r := newRing(&budget{limit: 1 << 30})
	r.patience = 20 * time.Millisecond
	slow, quick := mustView(t, r, 0), mustView(t, r, 0)
	slow.owner = true // no privilege while somebody else views
	cut := make(chan struct{})
	slow.cut = func() { close(cut) }
	var got bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 10_000)
		for quick.wait() {
			_, n := quick.next(buf)
			got.Write(buf[:n])
		}
	})
	var want bytes.Buffer
	for i := range 200_000 {
		line := fmt.Sprintf("%d\n", i)
		want.WriteString(line)
		r.write(wire.KindData, []byte(line))
	}
	r.finish(&wire.Exit{})
	wg.Wait()
	<-cut
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("the quick one got %d bytes of %d, or others", got.Len(), want.Len())
	}
	if slow.wait() {
		t.Error("the slow one has something to read")
	}
	again := mustView(t, r, slow.at)
	if again.at == slow.at {
		t.Error("what the slow one missed is all there")
	}
}

// TestOwnerIsWaitedFor: alone, whoever started the process is a pipe's reader.
func TestOwnerIsWaitedFor(t *testing.T) {
	r := newRing(&budget{limit: 1 << 30})
	r.patience = time.Millisecond
	v := mustView(t, r, 0)
	v.owner = true
	wrote := make(chan struct{})
	go func() {
		r.write(wire.KindData, make([]byte, 2*ringLimit))
		close(wrote)
	}()
	time.Sleep(50 * r.patience)
	for range 2 * ringLimit / 1024 {
		if !v.wait() {
			t.Fatal("cut off")
		}
		if _, n := v.next(make([]byte, 1024)); n != 1024 {
			t.Fatalf("%d bytes", n)
		}
	}
	<-wrote
}

func TestViewersAreCounted(t *testing.T) {
	r := newRing(&budget{limit: 1 << 30})
	for range maxViewers {
		mustView(t, r, 0)
	}
	if _, err := r.view(0); wire.CodeOf(err) != wire.Exhausted {
		t.Errorf("one too many: %v", err)
	}
}
