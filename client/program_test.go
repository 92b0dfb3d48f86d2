package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestServerGoesWhileAProgramRuns: what became of the program isn't known then,
// and that is no success. One that runs by itself is there for the next server.
func TestServerGoesWhileAProgramRuns(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(ctx, bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	serve := func() (*client.Client, func()) {
		s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "auth.json")), Version: "test", Log: quiet,
			Guard: auth.Options{Local: func(*http.Request) bool { return true }}})
		if err != nil {
			t.Fatal(err)
		}
		ts := httptest.NewServer(s)
		c, err := client.Dial(ctx, ts.URL, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c, func() {
			s.EndStreams()
			c.Close()
			ts.Close()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	c, end := serve()
	sb, err := c.Create(ctx, bandsox.CreateOptions{Image: vmtest.Image(t)})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd := sb.Shell("echo ready; sleep 1000")
	cmd.Stdout = w
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	own := sb.Shell("echo one; read x; echo $x")
	own.Detach, own.OpenStdin = true, true
	if err := own.Start(ctx); err != nil {
		t.Fatal(err)
	}
	or, ow := io.Pipe()
	a, err := own.Process().Attach(ctx, bandsox.AttachOptions{Stdout: ow})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(or, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	end()
	if err := cmd.Wait(ctx); !errors.Is(err, bandsox.ErrUnavailable) {
		t.Errorf("a program: %v", err)
	}
	if err := a.Wait(ctx); !errors.Is(err, bandsox.ErrUnavailable) {
		t.Errorf("an attachment: %v", err)
	}

	c, end = serve()
	defer end()
	if sb, err = c.Get(ctx, sb.ID()); err != nil {
		t.Fatal(err)
	}
	defer sb.Delete(ctx)
	p, err := sb.Process(ctx, own.ProcessID())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(ctx, []byte("two\n")); err != nil {
		t.Fatal(err)
	}
	r, w = io.Pipe()
	if a, err = p.Attach(ctx, bandsox.AttachOptions{Offset: a.Offset(), Stdout: w}); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, 4)
	if _, err := io.ReadFull(r, rest); err != nil || string(rest) != "two\n" {
		t.Errorf("%q %v", rest, err)
	}
	if err := a.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// TestProgramsShareAConnection: one that has no input takes no connection of its
// own, whatever comes of it.
func TestProgramsShareAConnection(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(ctx, bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "auth.json")), Version: "test", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ts := httptest.NewServer(s)
	defer ts.Close()
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: vmtest.Image(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Delete(context.Background())
	var dials atomic.Int32
	c, err := client.Dial(ctx, ts.URL, client.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := c.Get(ctx, sb.ID())
	if err != nil {
		t.Fatal(err)
	}
	const runs = 30
	for i := range runs {
		var exit *bandsox.ExitError
		out, err := far.Shell(fmt.Sprintf("head -c %d /dev/zero; exit %d", i*10_000, i%2)).Output(ctx)
		if len(out) != i*10_000 || (i%2 == 1) != errors.As(err, &exit) || err != nil && exit == nil {
			t.Fatalf("run %d: %d bytes, %v", i, len(out), err)
		}
		if err := far.Command("/no/such/program").Run(ctx); !errors.Is(err, bandsox.ErrNotFound) {
			t.Fatalf("a program that isn't there: %v", err)
		}
	}
	// Now and then the next request is made before the last answer's end was seen.
	if n := dials.Load(); n > runs/3 {
		t.Errorf("%d programs took %d connections", 2*runs, n)
	}
}
