package bandsox

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestDial to a server of this machine, whose loopback is the fake guest's.
func TestDial(t *testing.T) {
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		served <- err
	}()
	port := l.Addr().(*net.TCPAddr).Port
	conn, err := sb.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("there and back"))
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if b, err := io.ReadAll(conn); string(b) != "there and back" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	l.Close()

	_, err = sb.Dial(t.Context(), port)
	var e *Error
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("nothing listens: %v", err)
	}
	if _, err := sb.Dial(t.Context(), 70000); !errors.Is(err, ErrInvalid) {
		t.Errorf("port 70000: %v", err)
	}
	if err := sb.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Dial(t.Context(), port); !errors.Is(err, ErrConflict) {
		t.Errorf("a stopped one: %v", err)
	}
}
