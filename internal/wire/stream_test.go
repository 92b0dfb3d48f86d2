package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receive reads a stream to its end: all data together, and the control messages.
func receive(s *Stream) (data []byte, control []string, err error) {
	for {
		kind, p, err := s.Recv()
		switch {
		case err == io.EOF:
			return data, control, nil
		case err != nil:
			return data, control, err
		case kind == KindControl:
			control = append(control, string(p))
		default:
			data = append(data, p...)
		}
	}
}

// pattern is n bytes that show a gap or a repetition.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestUnreadStreamStallsNoOther(t *testing.T) {
	t.Parallel()
	host, guest := session(t)
	want := pattern(8 << 20)
	type end struct{ h, g *Stream }
	var unread []end
	var wg sync.WaitGroup
	for range 10 {
		h, g := pair(t, host, guest)
		unread = append(unread, end{h, g})
		for _, s := range []*Stream{h, g} {
			wg.Go(func() {
				if err := s.Send(KindData, want); err != nil {
					t.Error(err)
				}
				s.CloseSend()
			})
		}
	}
	h, g := pair(t, host, guest)
	for i := range 200 {
		msg := fmt.Sprint("message ", i)
		h.Send(KindControl, []byte(msg))
		if _, p, err := g.Recv(); err != nil || string(p) != msg {
			t.Fatalf("got %q, %v", p, err)
		}
		g.Send(KindData, []byte(msg))
		if _, p, err := h.Recv(); err != nil || string(p) != msg {
			t.Fatalf("got %q, %v", p, err)
		}
	}
	for _, e := range unread {
		for _, s := range []*Stream{e.h, e.g} {
			wg.Go(func() {
				if got, _, err := receive(s); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
	wg.Wait()
}

func TestBigRequest(t *testing.T) {
	host, guest := session(t)
	env := make([]string, 900)
	for i := range env {
		env[i] = fmt.Sprintf("KEY%d=%s", i, strings.Repeat("x", 1<<10))
	}
	var wg sync.WaitGroup
	for range 8 { // they do not mix
		wg.Go(func() {
			s, err := host.Open(testContext(t), Request{Op: OpStart, Start: &StartRequest{Env: env}})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, _, err := receive(s); err != nil {
				t.Error(err)
			}
		})
	}
	for range 8 {
		s, r, err := guest.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if r.Start == nil || len(r.Start.Env) != len(env) || r.Start.Env[899] != env[899] {
			t.Error("the request changed on the way")
		}
		s.CloseSend()
		s.Close()
	}
	wg.Wait()
	_, err := host.Open(testContext(t), Request{Op: OpStart, Start: &StartRequest{Argv: []string{strings.Repeat("x", maxMessage)}}})
	if CodeOf(err) != Invalid {
		t.Errorf("more than fits: %v", err)
	}
}

func TestBigControl(t *testing.T) {
	host, guest := session(t)
	h, g := pair(t, host, guest)
	want := string(pattern(maxMessage))
	go func() {
		g.Send(KindData, []byte("before"))
		g.Send(KindControl, []byte(want))
		g.Send(KindControl, nil)
		g.CloseSend()
	}()
	data, control, err := receive(h)
	if err != nil || string(data) != "before" || len(control) != 2 || control[0] != want || control[1] != "" {
		t.Errorf("%q, %d messages, %v", data, len(control), err)
	}
	if err := h.Send(KindControl, make([]byte, maxMessage+1)); CodeOf(err) != Invalid {
		t.Errorf("more than fits: %v", err)
	}
	if err := h.Send(3, []byte("x")); CodeOf(err) != Invalid {
		t.Errorf("unknown kind: %v", err)
	}
}

// What a handler said before it closed arrives, though its peer goes on sending.
func TestCloseAfterLastWord(t *testing.T) {
	host, guest := session(t)
	for range 50 {
		h, g := pair(t, host, guest)
		go func() {
			g.SendControl(Control{Exit: &Exit{Code: 3}})
			g.CloseSend()
			g.Close()
		}()
		var sendErr error
		for sendErr == nil { // ends when the guest's Close has come
			sendErr = h.Send(KindData, make([]byte, 1000))
		}
		if CodeOf(sendErr) != Unavailable {
			t.Errorf("sending to a closed stream: %v", sendErr)
		}
		_, p, err := h.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := ParseControl(p); err != nil || c.Exit == nil || c.Exit.Code != 3 {
			t.Errorf("%s, %v", p, err)
		}
		if _, _, err := h.Recv(); err != io.EOF {
			t.Errorf("end: %v", err)
		}
		h.Close()
	}
	if n := open(host); n != 0 {
		t.Errorf("%d streams left", n)
	}
}

func open(m *Mux) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

func TestReset(t *testing.T) {
	host, guest := session(t)
	h, g := pair(t, host, guest)
	g.Send(KindData, []byte("so far"))
	blocked := make(chan error, 1)
	go func() { blocked <- h.Send(KindData, make([]byte, 1<<20)) }()
	time.Sleep(10 * time.Millisecond)
	g.Reset(Errorf(NotFound, "no \x1b[31msuch thing").WithHint("curl evil | sh"))

	err := <-blocked
	var e *Error
	if !errors.As(err, &e) || e.Code != NotFound || e.Message != "no  [31msuch thing" || e.Hint != "" {
		t.Errorf("sending: %#v", err)
	}
	if _, p, err := h.Recv(); string(p) != "so far" || err != nil {
		t.Errorf("what came before the reset: %q, %v", p, err)
	}
	if _, _, err := h.Recv(); CodeOf(err) != NotFound {
		t.Errorf("receiving: %v", err)
	}
	if err := g.Send(KindData, []byte("x")); CodeOf(err) != NotFound {
		t.Errorf("sending on what we reset: %v", err)
	}
	if _, _, err := g.Recv(); CodeOf(err) != NotFound {
		t.Errorf("receiving on what we reset: %v", err)
	}
	h.Close()
	if open(host) != 0 || open(guest) != 0 {
		t.Errorf("%d and %d streams left", open(host), open(guest))
	}
}

func TestContexts(t *testing.T) {
	host, guest := session(t)
	h, g := pair(t, host, guest)
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, _, err := h.RecvContext(soon()); CodeOf(err) != Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("receiving: %v", err)
	}
	if err := h.SendContext(onceFull(t, g), KindData, make([]byte, 2*window)); !errors.Is(err, context.Canceled) {
		t.Errorf("sending: %v", err)
	}
	if err := h.SendContext(soon(), KindData, make([]byte, 2*window)); CodeOf(err) != Timeout {
		t.Errorf("sending more: %v", err)
	}
	// Half a control message can't be left: the stream ends.
	h2, g2 := pair(t, host, guest)
	if err := h2.Send(KindData, make([]byte, window/2)); err != nil {
		t.Fatal(err)
	}
	if err := h2.SendContext(onceFull(t, g2), KindControl, make([]byte, maxMessage)); !errors.Is(err, context.Canceled) {
		t.Errorf("sending a message: %v", err)
	}
	if _, _, err := receive(g2); CodeOf(err) != Unavailable {
		t.Errorf("receiving half a message: %v", err)
	}
	if n := open(host); n != 1 {
		t.Errorf("%d streams left", n)
	}
	// The first one lost nothing but what was not sent.
	done := make(chan error)
	go func() { done <- h.CloseSend() }()
	data, _, err := receive(g)
	if err != nil || len(data) < window/2 || len(data) > window {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := h.Send(KindData, []byte("x")); CodeOf(err) != Invalid {
		t.Errorf("sending after the end: %v", err)
	}
	if err := host.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
	if err := guest.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
}

// onceFull ends when s has nearly all that its window allows.
func onceFull(t *testing.T, s *Stream) context.Context {
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		defer cancel()
		for left := window; left > window/4 && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			s.mu.Lock()
			left = s.allowed
			s.mu.Unlock()
		}
	}()
	return ctx
}

// Flush is behind everything, and what it waited for has come.
func TestFlush(t *testing.T) {
	host, guest := session(t)
	h, g := pair(t, host, guest)
	if err := g.Send(KindData, make([]byte, window/2)); err != nil {
		t.Fatal(err)
	}
	if err := guest.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	got := window - h.allowed
	h.mu.Unlock()
	if got < window/2 {
		t.Errorf("only %d bytes have come", got)
	}
	// And Close loses nothing of it.
	g.Send(KindData, make([]byte, window/4))
	guest.Close()
	data, _, err := receive(h)
	if len(data) != window/2+window/4 || !errors.Is(err, ErrSession) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// A guest that reads nothing blocks nobody beyond their contexts.
func TestContextsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	host, _ := rawGuest(t)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	var failed int
	for range 30 {
		s, err := host.Open(ctx, Request{Op: OpStats})
		if err != nil {
			failed++
			continue
		}
		wg.Go(func() {
			if err := s.SendContext(ctx, KindData, make([]byte, 1<<20)); CodeOf(err) != Timeout {
				t.Errorf("sending: %v", err)
			}
			s.Close()
		})
	}
	wg.Wait()
	if _, err := host.Open(ctx, Request{Op: OpStart, Start: &StartRequest{Shell: strings.Repeat("x", 1<<19)}}); CodeOf(err) != Timeout {
		t.Errorf("opening: %v", err)
	}
	if n := open(host); n != 0 {
		t.Errorf("%d streams left", n)
	}
}

func TestTooManyStreams(t *testing.T) {
	host, guest := session(t)
	var all []*Stream
	for range MaxStreams {
		h, _ := pair(t, host, guest)
		all = append(all, h)
	}
	if _, err := host.Open(testContext(t), Request{Op: OpStats}); CodeOf(err) != Exhausted {
		t.Errorf("one more: %v", err)
	}
	all[5].Close()
	pair(t, host, guest)

	// A host that does not count is refused stream by stream.
	h, next := rawHost(t)
	m := <-next
	for i := range uint32(MaxStreams + 1) {
		h.send(frame{typ: typeOpen, stream: 2*i + 1, payload: []byte(`{"op":"stats"}`)})
	}
	f := h.want(typeReset)
	if f.stream != 2*MaxStreams+1 || decodeError(f.payload).Code != Exhausted {
		t.Errorf("stream %d: %s", f.stream, f.payload)
	}
	if m.Err() != nil {
		t.Error(m.Err())
	}
}

func TestBacklogIsBounded(t *testing.T) {
	h, next := rawHost(t)
	m := <-next
	part := make([]byte, maxPayload)
	for i := range uint32(maxBacklog/maxPayload + 2) {
		h.send(frame{typ: typeOpen, stream: 2*i + 1, payload: part})
	}
	if f := h.want(typeReset); decodeError(f.payload).Code != Exhausted {
		t.Errorf("stream %d: %s", f.stream, f.payload)
	}
	// None of them was JSON: each is refused, and a good one gets through.
	go func() {
		for range maxBacklog / maxPayload {
			h.want(typeReset)
		}
		h.send(frame{typ: typeOpen, stream: 1001, payload: []byte(`{"op":"stat"}`)})
	}()
	if s, r, err := m.Accept(); err != nil || r.Op != OpStat || s.id != 1001 {
		t.Errorf("%+v, %v", r, err)
	}
	if m.waiting != 0 || open(m) != 1 {
		t.Errorf("%d bytes and %d streams counted", m.waiting, open(m))
	}
}

// Nonsense ends the session at once, with an error that says so.
func TestHostRefusesNonsense(t *testing.T) {
	for _, c := range nonsense {
		t.Run(c.name, func(t *testing.T) {
			m, g := rawGuest(t)
			s, err := m.Open(testContext(t), Request{Op: OpStats})
			if err != nil {
				t.Fatal(err)
			}
			writeAll(g, c.frames, c.raw)
			<-m.Done()
			if !errors.Is(m.Err(), ErrSession) {
				t.Error(m.Err())
			}
			if _, _, err := receive(s); !errors.Is(err, ErrSession) && !c.ends {
				t.Errorf("receiving: %v", err)
			}
			if err := s.Send(KindData, []byte("x")); !errors.Is(err, ErrSession) {
				t.Errorf("sending: %v", err)
			}
			if _, err := m.Open(testContext(t), Request{}); !errors.Is(err, ErrSession) {
				t.Errorf("opening: %v", err)
			}
		})
	}
}

// Who saw the session's end can't send on any of its streams.
func TestDoneIsTheEndOfEveryStream(t *testing.T) {
	host, _ := session(t)
	var streams []*Stream
	for range MaxStreams {
		s, err := host.Open(testContext(t), Request{Op: OpStats})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	var unaware atomic.Int32
	var looks sync.WaitGroup
	for range 4 { // one of them is awake when it happens
		looks.Go(func() {
			<-host.Done()
			for _, s := range streams {
				if err := s.Send(KindData, []byte("x")); !errors.Is(err, ErrSession) {
					unaware.Add(1)
				}
			}
		})
	}
	host.Close()
	looks.Wait()
	if n := unaware.Load(); n > 0 {
		t.Errorf("%d calls did not see the end", n)
	}
}

// The guest's server outlives it.
func TestGuestRefusesNonsense(t *testing.T) {
	for _, c := range nonsense {
		t.Run(c.name, func(t *testing.T) {
			h, next := rawHost(t)
			m := <-next
			if c.name != "open" {
				h.send(frame{typ: typeOpen, stream: 1, payload: []byte(`{"op":"stats"}`)})
			}
			writeAll(h, c.frames, c.raw)
			if f := h.want(typeReset); f.stream != 0 || len(f.payload) == 0 {
				t.Errorf("told %d %s", f.stream, f.payload)
			}
			h.id++
			h.hello(Version)
			<-m.Done()
			if m2 := <-next; m2.Err() != nil {
				t.Error(m2.Err())
			}
		})
	}
}

func writeAll(p *raw, frames []frame, garbage string) {
	for _, f := range frames {
		f.session = p.id
		p.rw.Write(f.append(nil))
	}
	if garbage != "" {
		io.WriteString(p.rw, garbage)
		f := frame{typ: typePad, session: p.id}
		p.rw.Write(f.append(nil))
	}
}

var nonsense = []struct {
	name   string
	frames []frame
	raw    string
	ends   bool // after a good end of stream 1
}{
	{name: "more than the window", frames: slicesRepeat(frame{typ: typeData, stream: 1, payload: make([]byte, MaxData)}, window/MaxData+1)},
	{name: "many empty frames", frames: slicesRepeat(frame{typ: typeData, flags: byte(KindControl), stream: 1}, window/headerLen+1)},
	{name: "window never spent", frames: []frame{{typ: typeWindow, stream: 1, payload: []byte{1, 0, 0, 0}}}},
	{name: "huge window", frames: []frame{{typ: typeWindow, stream: 1, payload: []byte{255, 255, 255, 255}}}},
	{name: "window of nothing", frames: []frame{{typ: typeWindow, stream: 1}}},
	{name: "unknown kind", frames: []frame{{typ: typeData, flags: 3, stream: 1}}},
	{name: "unknown type", frames: []frame{{typ: 99, stream: 1}}},
	{name: "data in parts", frames: []frame{{typ: typeData, flags: flagMore, stream: 1, payload: []byte("x")}}},
	{name: "data inside a message", frames: []frame{
		{typ: typeData, flags: flagMore | byte(KindControl), stream: 1, payload: []byte("x")},
		{typ: typeData, stream: 1, payload: []byte("x")},
	}},
	{name: "end inside a message", frames: []frame{
		{typ: typeData, flags: flagMore | byte(KindControl), stream: 1, payload: []byte("x")},
		{typ: typeFin, stream: 1},
	}},
	{name: "empty part", frames: []frame{{typ: typeData, flags: flagMore | byte(KindControl), stream: 1}}},
	{name: "two ends", ends: true, frames: []frame{{typ: typeFin, stream: 1}, {typ: typeFin, stream: 1}}},
	{name: "data after the end", ends: true, frames: []frame{{typ: typeFin, stream: 1}, {typ: typeData, stream: 1}}},
	{name: "short ping", frames: []frame{{typ: typePing, payload: []byte("x")}}},
	{name: "open", frames: []frame{{typ: typeOpen, stream: 2, payload: []byte("{}")}}}, // the guest never; the host odd ones only
	{name: "garbage", raw: "\xb5\x0c garbage that is no frame, in the middle of a session"},
}

func slicesRepeat(f frame, n int) []frame {
	all := make([]frame, n)
	for i := range all {
		all[i] = f
	}
	return all
}

// What the guest said last is heard, though writing to it has already failed.
func TestLastWords(t *testing.T) {
	m, g := rawGuest(t)
	s, err := m.Open(testContext(t), Request{Op: OpStats})
	if err != nil {
		t.Fatal(err)
	}
	g.want(typeOpen)
	want := pattern(100 << 10)
	for rest := want; len(rest) > 0; rest = rest[min(len(rest), MaxData):] {
		g.send(frame{typ: typeData, stream: 1, payload: rest[:min(len(rest), MaxData)]})
	}
	g.send(frame{typ: typeData, flags: byte(KindControl), stream: 1, payload: []byte(`{"exit":{"code":0}}`)})
	g.rw.(io.Closer).Close()
	for s.Send(KindData, []byte("x")) == nil { // until writing has failed
		time.Sleep(time.Millisecond)
	}
	data, control, err := receive(s)
	if !errors.Is(err, ErrSession) || !bytes.Equal(data, want) || len(control) != 1 {
		t.Errorf("%d bytes, %q, %v", len(data), control, err)
	}
}

func TestParseControl(t *testing.T) {
	for _, bad := range []string{"", "{}", "[]", `{"done":{},"exit":{"code":0}}`, `{"exit":7}`} {
		if _, err := ParseControl([]byte(bad)); CodeOf(err) != Internal {
			t.Errorf("%s: %v", bad, err)
		}
	}
	c, err := ParseControl([]byte(`{"error":{"code":"weird","message":"a\u001bb\u202e` + strings.Repeat("é", 10000) + `","hint":"rm"}}`))
	if err != nil || c.Error.Code != Internal || len(c.Error.Message) > maxErrorText+10 || !strings.HasPrefix(c.Error.Message, "a b é") || c.Error.Hint != "" {
		t.Errorf("%+v, %v", c.Error, err)
	}
}
