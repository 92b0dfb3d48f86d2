package client_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/contract"
	"github.com/bandsox/bandsox/internal/server"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func TestMain(m *testing.M) {
	vmtest.Main(func() int {
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(); err != nil {
				os.Stderr.WriteString(err.Error() + "\n")
				code = 1
			}
		}
		return code
	})
}

// TestContract is the suite that the library is held to, through a server.
func TestContract(t *testing.T) {
	contract.Run(t, func(t *testing.T) contract.House { return contract.Client(dial(t)) })
}

// dial is a client of a server whose machines are processes of this host.
func dial(t *testing.T) *client.Client {
	t.Helper()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "auth.json")), Version: "test", Log: quiet,
		Guard: auth.Options{Local: func(*http.Request) bool { return true }}}) // who may name images of the host's files
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	c, err := client.Dial(t.Context(), ts.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.EndStreams()
		ts.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if list, _ := m.List(context.Background(), bandsox.ListOptions{}); len(list) > 0 {
			t.Errorf("left behind: %d sandboxes", len(list))
		}
		m.Close()
	})
	return c
}
