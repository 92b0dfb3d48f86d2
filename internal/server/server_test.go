package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
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

// house is a server over a manager whose machines are processes of this host.
type house struct {
	*httptest.Server
	t    *testing.T
	m    *bandsox.Manager
	keys *auth.Store
	key  string // sent with each request, if any
}

// newHouse is one whose callers come through its socket, until there are keys:
// so they may have images out of this host's files.
func newHouse(t *testing.T) *house {
	var h *house
	h = newHouseWith(t, auth.Options{Local: func(*http.Request) bool {
		on, err := h.keys.Enabled()
		return err == nil && !on
	}})
	return h
}

func newHouseWith(t *testing.T, o auth.Options) *house {
	t.Helper()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	keys := auth.Open(filepath.Join(dir, "auth.json"))
	s, err := server.New(server.Options{Manager: m, Auth: keys, Guard: o, Version: "test", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Server: httptest.NewServer(s), t: t, m: m, keys: keys}
	t.Cleanup(func() {
		s.EndStreams()
		h.Client().CloseIdleConnections()
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		ctx := context.Background()
		list, _ := m.List(ctx, bandsox.ListOptions{})
		for _, i := range list {
			if sb, err := m.Get(ctx, i.ID); err == nil {
				if err := sb.Delete(ctx); err != nil {
					t.Error(err)
				}
			}
		}
		m.Close()
	})
	return h
}

// create makes a sandbox without the server.
func (h *house) create(o bandsox.CreateOptions) *bandsox.Sandbox {
	h.t.Helper()
	if o.Image == "" {
		o.Image = vmtest.Image(h.t)
	}
	sb, err := h.m.Create(h.t.Context(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	return sb
}

// reply is an answer that has been read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// json reads the body into v.
func (r reply) json(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
}

// field is a field of a body that is an object.
func (r reply) field(name string) any {
	var m map[string]any
	_ = json.Unmarshal(r.body, &m)
	return m[name]
}

// do sends a request. A body that is a string goes as it is, any other as JSON.
func (h *house) do(method, path string, body any, headers ...string) reply {
	h.t.Helper()
	var r io.Reader
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.URL+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			h.t.Fatal(err)
		}
		r = bytes.NewReader(j)
		req.Header.Set("Content-Type", "application/json")
	}
	if r != nil {
		req.Body = io.NopCloser(r)
	}
	if h.key != "" {
		req.Header.Set("Authorization", "Bearer "+h.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := h.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}
