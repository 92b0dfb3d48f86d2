package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

// hotel is a server as it really listens.
type hotel struct {
	t      testing.TB
	addr   string
	socket string
	dir    string
	m      *bandsox.Manager
	keys   *auth.Store
	stop   context.CancelFunc
	ended  chan error
}

func newHotel(t testing.TB, l server.Listen, o auth.Options) *hotel {
	t.Helper()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	keys := auth.Open(filepath.Join(dir, "auth.json"))
	s, err := server.New(server.Options{Manager: m, Auth: keys, Guard: o, Version: "test", Log: quiet, Audit: filepath.Join(dir, "audit.jsonl")})
	if err != nil {
		t.Fatal(err)
	}
	h := &hotel{t: t, dir: dir, m: m, socket: filepath.Join(dir, "server.sock"), keys: keys, ended: make(chan error, 1)}
	if l.Socket, err = server.ListenSocket(h.socket); err != nil {
		t.Fatal(err)
	}
	if l.TCP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	h.addr = l.TCP.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	ready := make(chan struct{})
	l.Ready = func() { close(ready) }
	go func() {
		err := s.Run(ctx, l)
		err = errors.Join(err, s.Close(), m.Close())
		h.ended <- err
		h.ended <- err
	}()
	<-ready
	t.Cleanup(func() {
		stop()
		if err := <-h.ended; err != nil {
			t.Error(err)
		}
	})
	return h
}

// dial opens a connection that is closed when the test ends.
func (h *hotel) dial() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	h.t.Cleanup(func() { c.Close() })
	return c
}

// serves fails the test unless the server answers a new client.
func (h *hotel) serves() {
	h.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := c.Get("http://" + h.addr + "/healthz")
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		h.t.Errorf("healthz: %s", resp.Status)
	}
}

// answer reads the status of the answer on a connection.
func answer(t *testing.T, c net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// TestSlowHeader: who sends its header a byte at a time is cut off, and keeps
// nobody out meanwhile.
func TestSlowHeader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a header may take")
	}
	t.Parallel()
	h := newHotel(t, server.Listen{}, auth.Options{})
	c := h.dial()
	go func() {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nA%d: x\r\n"[:1], i); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	h.serves()
	if b, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection is still open after %q: %v", b, err)
	}
}

func TestHugeHeader(t *testing.T) {
	t.Parallel()
	h := newHotel(t, server.Listen{}, auth.Options{})
	c := h.dial()
	sent := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(c, io.MultiReader(strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nA: "), io.LimitReader(endless('x'), 1<<30)))
		sent <- n
	}()
	if got := answer(t, c); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", got)
	}
	c.Close()
	if n := <-sent; n >= 1<<30 {
		t.Errorf("all %d bytes were taken", n)
	}
	h.serves()
}

// TestEndlessBody: a JSON route takes so much and no more.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	h := newHotel(t, server.Listen{}, auth.Options{})
	c := h.dial()
	go func() {
		fmt.Fprint(c, "POST /api/vms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
		chunk := strings.Repeat("[", 4096)
		for {
			if _, err := fmt.Fprintf(c, "1000\r\n%s\r\n", chunk); err != nil {
				return
			}
		}
	}()
	if got := answer(t, c); got != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", got)
	}
	h.serves()
}

// TestHalfClosed: who closes its side of the connection after asking, or before
// it has, is no more than a client that left.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	h := newHotel(t, server.Listen{}, auth.Options{})
	for _, request := range []string{"", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /api/vms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"} {
		c := h.dial()
		_, _ = io.WriteString(c, request)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%q: the connection stays open: %v", request, err)
		}
	}
	h.serves()
}

// TestManyConnections: those that ask for nothing make room for those that do.
func TestManyConnections(t *testing.T) {
	const most, more = 400, 1000
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < 2*more+200 {
		t.Skipf("needs %d open files, and %d may be open: ulimit -n", 2*more+200, lim.Cur)
	}
	h := newHotel(t, server.Listen{MaxConns: most}, auth.Options{})
	conns := make([]net.Conn, 0, more)
	for i := range more {
		c := h.dial()
		if i%2 == 1 {
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n") // and never the rest
		}
		conns = append(conns, c)
	}
	h.serves()
	closed := 0
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, unix.EAGAIN) {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				closed++
			}
		}
	}
	if open := more - closed; open > most/2 {
		t.Errorf("%d connections from one address are open, and %d may be", open, most/2)
	}
}

// TestAllBusy: where every connection is being answered a further one is told so.
func TestAllBusy(t *testing.T) {
	t.Parallel()
	h := newHotel(t, server.Listen{MaxConns: 4}, auth.Options{})
	for range 2 { // as many as one address may have
		c := h.dial()
		fmt.Fprint(c, "POST /api/vms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	c := h.dial()
	if got := answer(t, c); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}

// TestTLS: the certificate is the one whose fingerprint is printed.
func TestTLS(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tls.pem")
	cert, err := auth.SelfSigned(t.Context(), file, []string{"localhost", "127.0.0.1", "*.sand.test"})
	if err != nil {
		t.Fatal(err)
	}
	h := newHotel(t, server.Listen{TLS: cert.Config()}, auth.Options{})
	if _, err := h.keys.Init(t.Context(), password); err != nil {
		t.Fatal(err)
	}
	seen := ""
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			seen = strings.ToUpper(fmt.Sprintf("% x", sha256.Sum256(s.PeerCertificates[0].Raw)))
			return nil
		}}}}
	resp, err := c.Post("https://"+h.addr+"/api/auth/login", "application/json", strings.NewReader(`{"password":"`+password+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.ReplaceAll(seen, " ", ":") != cert.Fingerprint() {
		t.Errorf("certificate %s, want %s", seen, cert.Fingerprint())
	}
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Set-Cookie"), "Secure") {
		t.Errorf("%s %s %v", resp.Proto, resp.Status, resp.Header)
	}
	again, err := auth.SelfSigned(t.Context(), file, []string{"*.sand.test"})
	if err != nil || again.Fingerprint() != cert.Fingerprint() {
		t.Errorf("it has another certificate the next time: %v", err)
	}
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}
