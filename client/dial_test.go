package client_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func TestDial(t *testing.T) {
	c := dial(t)
	sb, err := c.Create(t.Context(), bandsox.CreateOptions{Image: vmtest.Image(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Delete(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(served)
				return
			}
			go func() {
				_, err := io.Copy(c, c)
				c.Close()
				served <- err
			}()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	conn, err := sb.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("there and back "), 300_000)
	go func() {
		conn.Write(sent)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if b, err := io.ReadAll(conn); !bytes.Equal(b, sent) || err != nil {
		t.Errorf("%d bytes of %d, %v", len(b), len(sent), err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("reading after Close succeeds")
	}

	conn, err = sb.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	conn.Close()
	<-served
	l.Close()
	if _, err = sb.Dial(t.Context(), port); !errors.Is(err, bandsox.ErrUnavailable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nothing listens: %v", err)
	}
	if _, err = sb.Dial(t.Context(), 70000); !errors.Is(err, bandsox.ErrInvalid) {
		t.Errorf("port 70000: %v", err)
	}
}
