package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

// TestReady: a server whose directory is gone says so, and is well when it is
// back.
func TestReady(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if r := h.do("GET", "/readyz", nil); r.status != 200 || r.field("status") != "ready" || r.field("driver") != "process" || r.field("driver_version") == "" {
		t.Errorf("%d %s", r.status, r.body)
	}
	dir := h.m.Storage()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	r := h.do("GET", "/readyz", nil)
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if detail, _ := r.field("detail").(string); r.status != 503 || r.field("code") != "unavailable" || !strings.Contains(detail, dir) {
		t.Errorf("without its directory: %d %s", r.status, r.body)
	}
	if r := h.do("GET", "/healthz", nil); r.status != 200 {
		t.Errorf("healthz: %d", r.status)
	}
	if r := h.do("GET", "/readyz", nil); r.status != 200 {
		t.Errorf("when it is back: %d %s", r.status, r.body)
	}
}

// TestReadyToCreate: a server that has no monitor or no kernel says what to type.
func TestReadyToCreate(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: t.TempDir(), Driver: "qemu"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(t.TempDir(), "auth.json"))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(path string) (int, api.Error) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.Host, r.RemoteAddr = "localhost", "127.0.0.1:1"
		s.ServeHTTP(w, r)
		var e api.Error
		_ = json.Unmarshal(w.Body.Bytes(), &e)
		return w.Code, e
	}
	if code, e := ask("/readyz"); code != 503 || !strings.Contains(e.Detail.String(), "qemu-system-") || !strings.Contains(e.Hint, "apt-get install") {
		t.Errorf("%d %+v", code, e)
	}
	if code, _ := ask("/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
}

// TestMetrics: what was done is counted, in the form that Prometheus reads.
func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{})
	for range 3 {
		if r := h.do("POST", "/api/vms/"+sb.ID()+"/exec", map[string]any{"command": "true"}); r.status != 200 {
			t.Fatalf("exec: %d %s", r.status, r.body)
		}
	}
	h.do("POST", "/api/vms/nobody/pause", nil)
	h.do("GET", "/nowhere", nil)
	if r := h.do("POST", "/api/vms", map[string]any{"image": "dir:/does/not/exist"}); r.status < 400 {
		t.Fatalf("create: %d %s", r.status, r.body)
	}
	var r reply
	// The end of a program is told after its caller.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r = h.do("GET", "/metrics", nil)
		if bytes.Contains(r.body, []byte("\nbandsox_exec_duration_seconds_count 3\n")) || time.Now().After(deadline) {
			break
		}
	}
	if kind := r.header.Get("Content-Type"); r.status != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("%d %s", r.status, kind)
	}
	for _, want := range []string{
		"# TYPE bandsox_http_requests_total counter",
		"# TYPE bandsox_sandboxes gauge",
		`bandsox_http_requests_total{route="POST /api/vms/{id}/exec",status="200"} 3`,
		`bandsox_http_requests_total{route="POST /api/vms/{id}/pause",status="404"} 1`,
		`bandsox_http_requests_total{route="none",status="404"} 1`,
		`bandsox_http_request_duration_seconds_count{route="POST /api/vms/{id}/exec"} 3`,
		`bandsox_creates_total{result="not_found"} 1`,
		`bandsox_execs_total 3`,
		`bandsox_exec_duration_seconds_count 3`,
		`bandsox_events_total{type="ready"} 1`,
		`bandsox_sandboxes{state="running"} 1`,
		`bandsox_sandboxes{state="stopped"} 0`,
		`bandsox_http_open_requests 1`,
		`bandsox_http_open_streams 0`,
		`bandsox_info{version="test"} 1`,
	} {
		if !strings.Contains("\n"+string(r.body), "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	line := regexp.MustCompile(`^(# (TYPE|HELP) .*|[a-z_]+(\{\w+="[^"]*"(, ?\w+="[^"]*")*\})? \S+)$`)
	for l := range strings.Lines(string(r.body)) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("no line of Prometheus: %q", l)
		}
	}
	if strings.Contains(string(r.body), sb.ID()) {
		t.Error("a sandbox has figures of its own: there may be any number of them")
	}
}

// TestMetricsAreForHere: from this machine they take no key, from others and
// through a proxy one that may read.
func TestMetricsAreForHere(t *testing.T) {
	t.Parallel()
	for _, proxied := range []bool{false, true} {
		h := newHouseWith(t, auth.Options{Secure: proxied})
		if _, err := h.keys.Init(t.Context(), password); err != nil {
			t.Fatal(err)
		}
		reader := h.as(auth.KeyOptions{Name: "prometheus", Scopes: []auth.Scope{auth.ScopeRead}}).key
		one := h.as(auth.KeyOptions{Name: "one", Scopes: []auth.Scope{auth.OnSandbox("x")}}).key
		for _, c := range []struct {
			from, forwarded, key string
			status               int
		}{
			{"127.0.0.1:1", "", "", 200},
			{"[::1]:1", "", "", 200},
			{"127.0.0.1:1", "192.0.2.1", "", 401},
			{"192.0.2.1:1", "", "", 401},
			{"192.0.2.1:1", "127.0.0.1", "", 401},
			{"192.0.2.1:1", "", one, 403},
			{"192.0.2.1:1", "", reader, 200},
			{"127.0.0.1:1", "192.0.2.1", reader, 200},
		} {
			if proxied && c.key == "" {
				c.status = 401
			}
			req := httptest.NewRequest("GET", "http://localhost/metrics", nil)
			req.RemoteAddr = c.from
			if c.forwarded != "" {
				req.Header.Set("X-Forwarded-For", c.forwarded)
			}
			if c.key != "" {
				req.Header.Set("Authorization", "Bearer "+c.key)
			}
			w := httptest.NewRecorder()
			h.Config.Handler.ServeHTTP(w, req)
			if w.Code != c.status {
				t.Errorf("proxied %v, %+v: %d %s", proxied, c, w.Code, w.Body)
			}
		}
	}
}

// TestAuditRotates: a full log becomes the old one, ids go on, and what is asked
// for comes from both.
func TestAuditRotates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var full bytes.Buffer
	id := int64(0)
	for full.Len() < 8<<20-200 {
		id++
		full.Write(append(api.JSON(api.AuditEntry{ID: id, Event: auth.Event{Method: "POST", Path: "/" + strings.Repeat("x", 2000)}}), '\n'))
	}
	if err := os.WriteFile(path, full.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Manager: h.m, Auth: h.keys, Audit: path, Version: "test",
		Guard: auth.Options{Local: func(*http.Request) bool { return true }}})
	if err != nil {
		t.Fatal(err)
	}
	other := *h
	other.Server = httptest.NewServer(s)
	for range 3 {
		other.do("DELETE", "/api/vms/nobody", nil)
	}
	var list []api.AuditEntry
	other.do("GET", "/api/audit?limit=5", nil).json(t, &list)
	var ids []int64
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	if len(ids) != 5 || ids[0] != id+3 || ids[2] != id+1 || ids[4] != id-1 {
		t.Errorf("after %d the ids are %v", id, ids)
	}
	other.Client().CloseIdleConnections()
	other.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	old, err := os.ReadFile(path + ".1")
	if err != nil || !bytes.HasPrefix(old, full.Bytes()) {
		t.Errorf("the old log: %d bytes, %v", len(old), err)
	}
	now, err := os.ReadFile(path)
	var last api.AuditEntry
	lines := bytes.Split(bytes.TrimSpace(now), []byte("\n"))
	if err != nil || json.Unmarshal(lines[len(lines)-1], &last) != nil || last.ID != id+3 {
		t.Errorf("the new log: %.300s, %v", now, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode: %v %v", info.Mode(), err)
	}
}
