package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/store"
)

// serving is a `bandsox serve` that runs.
type serving struct {
	*exec.Cmd
	t    *testing.T
	dir  store.Layout
	at   string // where it says that it is
	ends chan error
}

// serve starts one and waits until it says where it is.
func serve(t *testing.T, dir string, args ...string) *serving {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
	s := &serving{Cmd: exec.Command("bandsox", append([]string{"serve", "--storage", dir}, args...)...), t: t, dir: store.Layout(dir), ends: make(chan error, 1)}
	out, w := io.Pipe()
	var stderr bytes.Buffer
	s.Stdout, s.Stderr = w, &stderr
	s.Env = os.Environ()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := s.Wait()
		w.Close()
		s.ends <- err
	}()
	t.Cleanup(func() { _ = s.Process.Kill() })
	lines := bufio.NewReader(out)
	for s.at == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it ended: %s", &stderr)
		}
		for _, words := range []string{"Starting dashboard at ", "Listening on "} {
			if at, ok := strings.CutPrefix(line, words); ok {
				s.at = strings.TrimSpace(at)
			}
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return s
}

// end waits for its end and returns the exit code.
func (s *serving) end() int {
	s.t.Helper()
	select {
	case err := <-s.ends:
		s.ends <- err
		return s.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		s.t.Fatal("it goes on")
		return 0
	}
}

func (s *serving) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// get asks it through its socket.
func (s *serving) get(path string) (*http.Response, error) {
	// The socket's address is shorter than its path may be.
	dir, err := os.Open(filepath.Dir(s.dir.Socket()))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(s.dir.Socket())))
	}}}
	return c.Get("http://localhost" + path)
}

func (s *serving) answers() {
	s.t.Helper()
	resp, err := s.get("/healthz")
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		s.t.Errorf("healthz: %s", resp.Status)
	}
}

// TestServeEndsOnSIGTERM, and takes its socket with it.
func TestServeEndsOnSIGTERM(t *testing.T) {
	s := serve(t, t.TempDir(), "--port", "0")
	s.answers()
	s.signal(syscall.SIGTERM)
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(s.dir.Socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestServeSecondSignal: the first lets a request go on, the second does not.
func TestServeSecondSignal(t *testing.T) {
	s := serve(t, t.TempDir(), "--port", "0")
	addr := strings.TrimPrefix(s.at, "http://")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /api/vms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q, %v", line, err)
	}
	s.signal(syscall.SIGINT)
	for {
		other, err := net.Dial("tcp", addr)
		if err != nil {
			break // it listens no more: the first was seen
		}
		other.Close()
		time.Sleep(10 * time.Millisecond)
	}
	s.signal(syscall.SIGINT)
	if code := s.end(); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit code %d", code)
	}
}

// TestServeIdleExit: a server that nobody needs ends, and one with a reader of
// events doesn't.
func TestServeIdleExit(t *testing.T) {
	s := serve(t, t.TempDir(), "--socket-only", "--idle-exit", "6s")
	events, err := s.get("/api/events")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.ends:
		t.Fatal("it ended under its reader")
	case <-time.After(8 * time.Second):
	}
	s.answers()
	events.Body.Close()
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s = serve(t, string(s.dir), "--socket-only", "--idle-exit", "300ms")
	if code := s.end(); code != 0 {
		t.Errorf("one that nobody asks: exit code %d", code)
	}
}

// TestServeTellsSystemd when it answers and when it ends.
func TestServeTellsSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	if err != nil {
		t.Skipf("a socket's path is too long here: %v", err)
	}
	defer l.Close()
	_ = l.SetReadDeadline(time.Now().Add(2 * time.Minute))
	next := func() string {
		b := make([]byte, 100)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	t.Setenv("NOTIFY_SOCKET", path)
	s := serve(t, t.TempDir(), "--socket-only")
	if got := next(); got != "READY=1" {
		t.Errorf("got %q", got)
	}
	s.answers()
	s.signal(syscall.SIGTERM)
	if got := next(); got != "STOPPING=1" {
		t.Errorf("got %q", got)
	}
	s.end()
}

// TestServeAfterKill: what a killed server has left is in nobody's way.
func TestServeAfterKill(t *testing.T) {
	s := serve(t, t.TempDir(), "--socket-only")
	s.signal(syscall.SIGKILL)
	s.end()
	if _, err := os.Lstat(s.dir.Socket()); err != nil {
		t.Fatalf("no socket is left, so this shows nothing: %v", err)
	}
	s = serve(t, string(s.dir), "--socket-only")
	s.answers()
	s.signal(syscall.SIGTERM)
	s.end()
}

// TestServeLogIsBounded: a full log becomes the old one, and what is said from
// then on, by Go itself too, is in the new one.
func TestServeLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	full := bytes.Repeat([]byte("what was said before\n"), logBytes/21)
	if err := os.WriteFile(path, full, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir, "--port", "0", "--tls", "--verbose", "--log-file", path)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.at, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "this is no TLS\r\n") // which it notes
	_, _ = io.Copy(io.Discard, c)
	c.Close()
	var said []byte
	for deadline := time.Now().Add(time.Minute); !bytes.Contains(said, []byte("TLS handshake")); time.Sleep(20 * time.Millisecond) {
		if said, _ = os.ReadFile(path); time.Now().After(deadline) {
			t.Fatalf("the log: %.300s", said)
		}
	}
	if old, err := os.ReadFile(path + ".1"); err != nil || !bytes.HasPrefix(old, full) {
		t.Errorf("the old log: %d bytes, %v", len(old), err)
	}
	for fd := 1; fd <= 2; fd++ {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.Process.Pid, fd)); err != nil || to != path {
			t.Errorf("descriptor %d: %s %v", fd, to, err)
		}
	}
	s.signal(syscall.SIGTERM)
	s.end()
}

// TestServeIdleCrowd: thousands who connect and say nothing keep nobody out and
// take little.
func TestServeIdleCrowd(t *testing.T) {
	const crowd = 9000
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < crowd+500 {
		t.Skipf("needs %d open files, and %d may be open: ulimit -n", crowd+500, lim.Cur)
	}
	s := serve(t, t.TempDir(), "--port", "0")
	addr := strings.TrimPrefix(s.at, "http://")
	for i := range crowd { // from several addresses: one alone may have but half
		d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%8))}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("the %d. connection: %v", i, err)
		}
		defer c.Close()
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Get(s.at + "/healthz")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("one more is not answered: %v %v", resp, err)
	}
	resp.Body.Close()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Process.Pid))
	if err != nil || len(files) > 8192+100 {
		t.Errorf("%d files are open, %v", len(files), err)
	}
	s.signal(syscall.SIGTERM)
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
