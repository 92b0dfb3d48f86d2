package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

// listen serves connections with f, on a port of this machine's own loopback,
// which is the fake guest's.
func listen(t *testing.T, at string, f func(*net.TCPConn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Skipf("listening at %s: %v", at, err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-over })
	return l.Addr().(*net.TCPAddr).Port
}

func dial(t *testing.T, s *service, port int) *agent.Conn {
	t.Helper()
	c, err := s.client.Dial(context2(t), wire.DialRequest{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*agent.Conn)
}

// TestDialCarriesBytes both ways at once, with an end of each.
func TestDialCarriesBytes(t *testing.T) {
	port := listen(t, "127.0.0.1", func(c *net.TCPConn) { io.Copy(c, c) })
	c := dial(t, start(t, guest.ServeConfig{}), port)
	sent := make([]byte, 9<<20+1)
	rand.Read(sent)
	var got bytes.Buffer
	var g errgroup.Group
	g.Go(func() error {
		if _, err := c.Write(sent); err != nil {
			return err
		}
		return c.CloseWrite()
	})
	if _, err := got.ReadFrom(c); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%d bytes came back of %d, or others", got.Len(), len(sent))
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing after CloseWrite: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("reading after Close succeeds")
	}
}

// TestDialAnswersAfterTheEnd: a server that reads to the end and then answers.
func TestDialAnswersAfterTheEnd(t *testing.T) {
	port := listen(t, "127.0.0.1", func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		c.Write(append([]byte("got "), b...))
	})
	c := dial(t, start(t, guest.ServeConfig{}), port)
	c.Write([]byte("all"))
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "got all" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

// TestDialCloseKeepsWhatWasWritten: as a socket's close does.
func TestDialCloseKeepsWhatWasWritten(t *testing.T) {
	type end struct {
		n   int
		err error
	}
	ends := make(chan end, 1)
	port := listen(t, "127.0.0.1", func(c *net.TCPConn) {
		b, err := io.ReadAll(c)
		ends <- end{len(b), err}
	})
	s := start(t, guest.ServeConfig{})
	c := dial(t, s, port)
	c.Write(make([]byte, 300<<10))
	c.Close()
	if e := <-ends; e.n != 300<<10 || e.err != nil {
		t.Errorf("after a close the server has %d bytes and %v", e.n, e.err)
	}
	// One that is closed while it writes is broken off.
	begun, slow := make(chan struct{}), make(chan struct{})
	port = listen(t, "127.0.0.1", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		close(begun)
		<-slow
		b, err := io.ReadAll(c)
		ends <- end{len(b), err}
	})
	c = dial(t, s, port)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 64<<20))
		wrote <- err
	}()
	<-begun
	c.Close()
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the write that was cut off: %v", err)
	}
	close(slow)
	if e := <-ends; e.err == nil {
		t.Errorf("the server takes %d bytes for the whole", e.n)
	}
}

func TestDialNothingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	s := start(t, guest.ServeConfig{})
	_, err = s.client.Dial(context2(t), wire.DialRequest{Port: port})
	wantCode(t, err, wire.Unavailable, "nothing listens on port")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v is not ECONNREFUSED", err)
	}
	for _, bad := range []wire.DialRequest{{Port: 0}, {Port: 65536}, {Port: -1}, {Port: 80, Address: "10.0.0.1"}} {
		_, err := s.client.Dial(context2(t), bad)
		wantCode(t, err, wire.Invalid, "port")
	}
}

// TestDialIPv6: many a server listens at localhost and gets ::1 only.
func TestDialIPv6(t *testing.T) {
	port := listen(t, "::1", func(c *net.TCPConn) { c.Write([]byte("six")) })
	s := start(t, guest.ServeConfig{})
	c := dial(t, s, port)
	if b, err := io.ReadAll(c); string(b) != "six" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

func TestDialDeadlines(t *testing.T) {
	done := make(chan struct{})
	port := listen(t, "127.0.0.1", func(c *net.TCPConn) { <-done })
	defer close(done)
	c := dial(t, start(t, guest.ServeConfig{}), port)
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	go c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // moves the end of a Read under way
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

// TestDialBreaks: what becomes of each side when the other goes away.
func TestDialBreaks(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	port := listen(t, "127.0.0.1", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
	})
	c := dial(t, s, port)
	c.Write([]byte("x"))
	_, err := io.ReadAll(c)
	wantCode(t, err, wire.Unavailable, "broke")
	c.Close()

	gone := make(chan struct{})
	port = listen(t, "127.0.0.1", func(c *net.TCPConn) { io.Copy(io.Discard, c); close(gone) })
	c = dial(t, s, port)
	s.client.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, wire.ErrSession) {
		t.Errorf("after the session: %v", err)
	}
	<-gone
}

// TestDialGivesUp on a server that doesn't accept.
func TestDialGivesUp(t *testing.T) {
	t.Parallel()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, guest.ServeConfig{})
	for range 8 { // until its queue is full
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		c, err := s.client.Dial(ctx, wire.DialRequest{Port: sa.(*syscall.SockaddrInet4).Port})
		cancel()
		if err != nil {
			wantCode(t, err, wire.Timeout, "")
			return
		}
		defer c.Close()
	}
	t.Error("no dial gave up")
}
