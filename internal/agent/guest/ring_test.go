package guest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bandsox/bandsox/internal/wire"
)

// TestRing checks a ring against the simplest thing that it could be: a list
// of all bytes ever written, each with its kind.
func TestRing(t *testing.T) {
	type tagged struct {
		kind wire.Kind
		b    byte
	}
	rapid.Check(t, func(t *rapid.T) {
		b := &budget{limit: rapid.SampledFrom([]int64{0, 10_000, 40_000, 1 << 30}).Draw(t, "budget")}
		r := newRing(b)
		var all []tagged
		next := byte(0)
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			kind := rapid.SampledFrom([]wire.Kind{wire.KindData, wire.KindStderr}).Draw(t, "kind")
			p := make([]byte, rapid.SampledFrom([]int{0, 1, 2, 100, 4095, 4096, 5000, 70_000, 300_000}).Draw(t, "size"))
			for i := range p {
				p[i] = next
				next = next*7 + 3
				all = append(all, tagged{kind, p[i]})
			}
			r.write(kind, p)
		}
		if ended := rapid.Bool().Draw(t, "ended"); ended {
			r.finish(&wire.Exit{})
		}
		kept := int(r.end - r.start)
		if r.end != int64(len(all)) || kept > ringLimit || kept < min(len(all), ringFirst) {
			t.Fatalf("kept %d of %d, to %d", kept, len(all), r.end)
		}
		v, _ := r.view(rapid.Int64Range(-int64(len(all))-5, int64(len(all))+5).Draw(t, "offset"))
		buf := make([]byte, rapid.IntRange(1, 100_000).Draw(t, "buf"))
		at := v.at
		for v.at < r.end {
			if !v.wait() {
				t.Fatal("nothing to read where there is")
			}
			kind, n := v.next(buf)
			for i, c := range buf[:n] {
				if want := all[int(at)+i]; want.b != c || want.kind != kind {
					t.Fatalf("at %d: %d of kind %d, want %+v", at+int64(i), c, kind, want)
				}
			}
			at += int64(n)
		}
		v.close()
		r.drop()
		if b.used.Load() != 0 {
			t.Fatalf("%d bytes of the budget are lost", b.used.Load())
		}
	})
}

// TestRingWaitsForViewers floods a ring with several readers at once: nobody
// loses a byte, in whatever pieces it comes.
func TestRingWaitsForViewers(t *testing.T) {
	r := newRing(&budget{limit: 1 << 30})
	var wg sync.WaitGroup
	var got [3]bytes.Buffer
	for i := range got {
		v, _ := r.view(0)
		wg.Go(func() {
			defer v.close()
			buf := make([]byte, 1000*(i+1)+i)
			for v.wait() {
				_, n := v.next(buf)
				got[i].Write(buf[:n])
			}
		})
	}
	var want bytes.Buffer
	for i := range 60_000 {
		line := fmt.Sprintf("%d\n", i)
		want.WriteString(line)
		r.write(wire.Kind(i%2), []byte(line)) // more changes of kind than a ring keeps
	}
	r.finish(&wire.Exit{})
	wg.Wait()
	for i := range got {
		if !bytes.Equal(got[i].Bytes(), want.Bytes()) {
			t.Errorf("viewer %d got %d bytes of %d, or others", i, got[i].Len(), want.Len())
		}
	}
}

// TestRingOfManyChanges bounds the memory that one byte of each kind in turn takes.
func TestRingOfManyChanges(t *testing.T) {
	r := newRing(&budget{limit: 1 << 30})
	for i := range 3 * ringRuns {
		r.write(wire.Kind(i%2), []byte{byte(i)})
	}
	if len(r.runs) > ringRuns+1 || r.end-r.start > ringRuns+1 || r.end-r.start < ringRuns/2 {
		t.Errorf("%d runs, %d bytes", len(r.runs), r.end-r.start)
	}
}

func TestRingLetsGo(t *testing.T) {
	r := newRing(&budget{limit: 1 << 30})
	v, _ := r.view(0)
	wrote := make(chan struct{})
	go func() {
		r.write(wire.KindData, make([]byte, 2*ringLimit))
		close(wrote)
	}()
	select {
	case <-wrote:
		t.Fatal("the writer did not wait for the viewer")
	case <-time.After(50 * time.Millisecond):
	}
	v.close()
	<-wrote
	if v.wait() {
		t.Error("a closed view has something to read")
	}
	if _, n := v.next(make([]byte, 10)); n != 0 {
		t.Error("a closed view gave bytes")
	}
}
