package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// readLine reads a process's output up to a line's end.
func readLine(t *testing.T, p *agent.Process) string {
	t.Helper()
	var line []byte
	for !bytes.HasSuffix(line, []byte("\n")) {
		_, b, err := p.Recv()
		if err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
		line = append(line, b...)
	}
	return strings.TrimSpace(string(line))
}

func begin(t *testing.T, s *service, r wire.StartRequest) *agent.Process {
	t.Helper()
	p, err := s.client.Start(context2(t), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func size(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

func TestBigOutputIsWhole(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	n := size(50_000_000)
	p := begin(t, s, sh(fmt.Sprintf("head -c %d /dev/urandom | tee copy; cat copy >&2", n)))
	out, errOut := sha256.New(), sha256.New()
	if _, err := p.Copy(out, errOut); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.root + "/copy")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := sha256.New()
	if copied, err := io.Copy(want, f); err != nil || copied != int64(n) {
		t.Fatal(copied, err)
	}
	if !bytes.Equal(out.Sum(nil), want.Sum(nil)) || !bytes.Equal(errOut.Sum(nil), want.Sum(nil)) {
		t.Error("the output is not what was written")
	}
	if p.Offset() != int64(2*n) {
		t.Errorf("offset %d, want %d", p.Offset(), 2*n)
	}
}

// noise is bytes that compress badly and repeat never, the same for a seed.
type noise struct{ state uint64 }

func (r *noise) Read(p []byte) (int, error) {
	for i := range p {
		r.state = r.state*6364136223846793005 + 1442695040888963407
		p[i] = byte(r.state >> 56)
	}
	return len(p), nil
}

func TestCatRoundTrip(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	n := int64(size(100_000_000))
	p := begin(t, s, wire.StartRequest{Argv: []string{"cat"}, Stdin: true})
	sent := sha256.New()
	go func() {
		io.Copy(io.MultiWriter(p, sent), io.LimitReader(&noise{1}, n))
		p.CloseStdin()
	}()
	got := sha256.New()
	exit, err := p.Copy(got, nil)
	if err != nil || exit.Code != 0 {
		t.Fatal(exit, err)
	}
	if p.Offset() != n || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d bytes of %d came back, or others", p.Offset(), n)
	}
}

func TestStdin(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	if out, _, _ := s.run(t, sh("cat; echo end")); out != "end\n" {
		t.Errorf("without stdin: %q", out)
	}
	p := begin(t, s, wire.StartRequest{Shell: "read x; echo got $x; cat; echo end", Stdin: true})
	io.WriteString(p, "one\n")
	if l := readLine(t, p); l != "got one" {
		t.Fatal(l)
	}
	io.WriteString(p, "rest")
	p.CloseStdin()
	var out bytes.Buffer
	if _, err := p.Copy(&out, nil); err != nil || out.String() != "restend\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestStdinNobodyReads(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	q := begin(t, s, wire.StartRequest{Argv: []string{"sleep", "1000"}, Stdin: true})
	full := make(chan struct{})
	go func() {
		defer close(full)
		io.Copy(q, io.LimitReader(&noise{2}, 10<<20)) // much more than every buffer on the way
	}()
	if err := q.Signal(15, false); err != nil { // gets past the full input
		t.Fatal(err)
	}
	exit, err := q.Copy(nil, nil)
	if err != nil || exit.Signal != 15 {
		t.Error(exit, err)
	}
	q.Close()
	<-full
}

func TestSignals(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, sh("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done"))
	readLine(t, p)
	if err := p.Signal(int(syscall.SIGUSR1), false); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	exit, err := p.Copy(&out, io.Discard)
	if err != nil || exit.Code != 9 || out.String() != "caught\n" {
		t.Errorf("%+v %v %q", exit, err, out.String())
	}
	wantCode(t, p.Signal(9, false), wire.Conflict, "has ended")
	wantCode(t, p.Signal(0, false), wire.Invalid, "no signal 0")
	wantCode(t, s.client.Signal(context2(t), wire.SignalRequest{Process: "nobody", Signal: 9}), wire.NotFound, "nobody")
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, wire.StartRequest{Shell: "sleep 1000 & echo $!; trap '' TERM; sleep 1000", Timeout: 300 * time.Millisecond})
	var out bytes.Buffer
	exit, err := p.Copy(&out, nil)
	if err != nil || !exit.Timeout || exit.Signal != 9 {
		t.Fatalf("%+v, %v", exit, err)
	}
	var child int
	fmt.Sscan(out.String(), &child)
	eventually(t, "the child dies, too", func() bool { return child > 0 && !alive(child) })
}

func TestTerminal(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, wire.StartRequest{
		Shell: "stty size; test -t 0 && test -t 2 && echo tty $TERM; trap 'stty size' WINCH; stty -echo; while ! read x; do :; done; echo got $x; cat; echo end",
		TTY:   &wire.Size{Cols: 123, Rows: 45}, Stdin: true,
	})
	if l := readLine(t, p); !strings.HasPrefix(l, "45 123") {
		t.Fatal(l)
	}
	if err := p.Resize(wire.Size{Cols: 80, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "line\n")
	p.CloseStdin() // Ctrl-D
	var out bytes.Buffer
	exit, err := p.Copy(&out, &out)
	if err != nil || exit.Code != 0 || !strings.Contains(out.String(), "got line") || !strings.Contains(out.String(), "end") {
		t.Errorf("%+v %v %q", exit, err, out.String())
	}
}

func TestTerminalInterrupt(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, wire.StartRequest{Shell: "echo ready; exec sleep 1000", TTY: &wire.Size{Cols: 80, Rows: 24}, Stdin: true})
	readLine(t, p)
	io.WriteString(p, "\x03")
	exit, err := p.Copy(io.Discard, nil)
	if err != nil || exit.Signal != int(syscall.SIGINT) {
		t.Errorf("Ctrl-C: %+v, %v", exit, err)
	}
	p = begin(t, s, wire.StartRequest{Shell: "echo ready; exec sleep 1000", TTY: &wire.Size{Cols: 80, Rows: 24}})
	readLine(t, p)
	if err := p.Signal(int(syscall.SIGHUP), false); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Copy(io.Discard, nil); err != nil || exit.Signal != int(syscall.SIGHUP) {
		t.Errorf("SIGHUP: %+v, %v", exit, err)
	}
}

func TestTerminalLosesNothing(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	out, _, _ := s.run(t, wire.StartRequest{Shell: "seq 1 20000", TTY: &wire.Size{Cols: 80, Rows: 24}})
	if n := strings.Count(out, "\r\n"); n != 20000 {
		t.Errorf("%d lines of 20000", n)
	}
}

// A program left in the background holds the pipes: that must not keep the
// exec waiting, nor lose what was written, nor kill the program.
func TestBackground(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	out, _, exit := s.run(t, sh("(while :; do echo x; sleep 0.01; done) & echo $! done; exit 4"))
	var pid int
	fmt.Sscan(strings.TrimLeft(out, "x\n"), &pid)
	if exit.Code != 4 || pid == 0 {
		t.Fatalf("%+v %q", exit, out)
	}
	time.Sleep(300 * time.Millisecond)
	if !alive(pid) {
		t.Error("the program in the background died")
	}
	syscall.Kill(pid, syscall.SIGKILL)
	out, _, _ = s.run(t, sh("sleep 5 & head -c 60000 /dev/zero; kill -9 $$"))
	if len(out) != 60000 {
		t.Errorf("%d bytes of 60000", len(out))
	}
	exec := begin(t, s, sh("yes >&2 & head -c 300000 /dev/zero"))
	var zeros bytes.Buffer
	if _, err := exec.Copy(&zeros, io.Discard); err != nil || zeros.Len() != 300000 {
		t.Errorf("beside a flood: %d bytes of 300000, %v", zeros.Len(), err)
	}
}

func TestAttach(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, wire.StartRequest{ID: "job", Shell: "echo one; read x; echo two >&2; read x; echo three; exit 5", Stdin: true})
	if l := readLine(t, p); l != "one" {
		t.Fatal(l)
	}
	at := p.Offset()
	p.Close() // it goes on
	attach := func(offset int64) *agent.Process {
		q, err := s.client.Attach(context2(t), wire.AttachRequest{Process: "job", Offset: offset})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := attach(at)
	io.WriteString(q, "\n")
	if l := readLine(t, q); l != "two" {
		t.Fatal(l)
	}
	both := attach(0)
	defer both.Close()
	io.WriteString(q, "\n")
	var out, errOut bytes.Buffer
	if exit, err := both.Copy(&out, &errOut); err != nil || exit.Code != 5 || out.String() != "one\nthree\n" || errOut.String() != "two\n" {
		t.Errorf("%+v %v %q %q", exit, err, out.String(), errOut.String())
	}
	q.Close()
	after := attach(at + 2) // long after the end
	defer after.Close()
	out.Reset()
	if exit, err := after.Copy(&out, &out); err != nil || exit.Code != 5 || out.String() != "o\nthree\n" {
		t.Errorf("%+v %v %q", exit, err, out.String())
	}
	_, err := s.client.Attach(context2(t), wire.AttachRequest{Process: "nobody"})
	wantCode(t, err, wire.NotFound, "nobody")
}

func TestDetachedOutputKeepsTheNewest(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, wire.StartRequest{ID: "flood", Shell: "read x; seq 1 200000; echo end; read x", Stdin: true})
	io.WriteString(p, "\n")
	p.Close()
	var list []wire.Process
	eventually(t, "the flood ends unread", func() bool {
		list, _ = s.client.Processes(context2(t))
		return len(list) == 1 && list[0].Output == 1288895+4
	})
	q, err := s.client.Attach(context2(t), wire.AttachRequest{Process: "flood", Offset: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if q.Started().Offset <= 10 || q.Started().Offset > list[0].Output-100_000 {
		t.Errorf("attached at %d of %d", q.Started().Offset, list[0].Output)
	}
	io.WriteString(q, "\n")
	var out bytes.Buffer
	if _, err := q.Copy(&out, nil); err != nil || !strings.HasSuffix(out.String(), "\n199999\n200000\nend\n") {
		t.Errorf("%v, %q", err, out.String()[max(0, out.Len()-100):])
	}
	if q.Offset() != list[0].Output || int64(out.Len()) != list[0].Output-q.Started().Offset {
		t.Errorf("offset %d, %d bytes, of %d", q.Offset(), out.Len(), list[0].Output)
	}
}

func TestSlowReaderHoldsTheProcess(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, sh("seq 1 400000"))
	time.Sleep(200 * time.Millisecond)
	var out bytes.Buffer
	if _, err := p.Copy(&out, nil); err != nil || out.Len() != 2688895+0 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestKillOnDetach(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	for _, how := range []string{"close", "context", "stdin closed first"} {
		ctx, cancel := context.WithCancel(context.Background())
		p, err := s.client.Start(ctx, wire.StartRequest{Shell: "echo $$; exec sleep 1000", KillOnDetach: true, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		readLine(t, p)
		pid := p.Started().PID
		switch how {
		case "context":
			cancel()
			_, err := p.Copy(nil, nil)
			wantCode(t, err, wire.Unavailable, "context canceled")
		case "stdin closed first":
			p.CloseStdin()
		}
		p.Close()
		eventually(t, how+" kills it", func() bool { return !alive(pid) })
		cancel()
	}
}

func TestConnectionDies(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, wire.StartRequest{Argv: []string{"yes"}})
	if _, _, err := p.Recv(); err != nil {
		t.Fatal(err)
	}
	idle := begin(t, s, wire.StartRequest{Argv: []string{"sleep", "1000"}})
	results := make(chan error, 2)
	for _, p := range []*agent.Process{p, idle} {
		go func() {
			_, err := p.Copy(io.Discard, nil)
			results <- err
		}()
	}
	s.conn.Close()
	begin := time.Now()
	for range 2 {
		wantCode(t, <-results, wire.Unavailable, "")
	}
	t.Logf("told after %v", time.Since(begin))
	<-s.client.Done()
	wantCode(t, s.client.Err(), wire.Unavailable, "")
	_, err := s.client.Stats(context2(t))
	wantCode(t, err, wire.Unavailable, "")
	if err := <-s.over; err == nil {
		t.Error("Serve ended without an error")
	}
	eventually(t, "the fake kills what it started", func() bool { return !alive(p.Started().PID) && !alive(idle.Started().PID) })
}

func TestLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs time: it starts 512 processes")
	}
	s := start(t, guest.ServeConfig{})
	procs := make([]*agent.Process, 512)
	for i := range procs {
		procs[i] = begin(t, s, wire.StartRequest{Argv: []string{"sleep", "1000"}})
	}
	_, err := s.client.Start(context2(t), sh("true"))
	wantCode(t, err, wire.Exhausted, "512")
	procs[0].Signal(9, true)
	if _, err := procs[0].Copy(nil, nil); err != nil {
		t.Fatal(err)
	}
	s.run(t, sh("true"))
}

func TestForgetsTheOldest(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	for range 260 {
		s.run(t, wire.StartRequest{Argv: []string{"true"}})
	}
	list, err := s.client.Processes(context2(t))
	if err != nil || len(list) != 256 || list[0].ID != "5" {
		t.Errorf("%d, the oldest %s: %v", len(list), list[0].ID, err)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	s := start(t, guest.ServeConfig{})
	p := begin(t, s, sh("trap 'sleep 0.1; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
	q := begin(t, s, sh("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
	readLine(t, p)
	readLine(t, q)
	shut := make(chan error, 1)
	go func() { shut <- s.client.Shutdown(context2(t), time.Second) }()
	var out bytes.Buffer
	if exit, err := p.Copy(&out, nil); err != nil || exit.Code != 0 || out.String() != "bye\n" {
		t.Errorf("polite: %+v %v %q", exit, err, out.String())
	}
	if exit, err := q.Copy(nil, nil); err != nil || exit.Signal != 9 {
		t.Errorf("stubborn: %+v %v", exit, err)
	}
	if err := <-shut; err != nil {
		t.Error(err)
	}
	if err := <-s.over; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
