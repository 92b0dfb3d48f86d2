package server_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

// TestBrowsers: what another site's page may and may not have a browser do.
func TestBrowsers(t *testing.T) {
	t.Parallel()
	h := newHotel(t, server.Listen{}, auth.Options{Origins: []string{"https://friend.test"}})
	ask := func(method, path, body string, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+h.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
				r.Host = headers[i+1]
			}
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	preflight := []string{"Access-Control-Request-Method", "POST", "Origin"}
	socket := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	foreign := []string{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}
	for _, c := range []struct {
		what, method, path string
		headers            []string
		denied             bool
	}{
		{"a foreign name", "GET", "/api/vms", []string{"Host", "evil.test"}, true},
		{"a change from a foreign page", "POST", "/api/vms/x/pause", foreign, true},
		{"a look from a foreign page", "GET", "/api/vms", foreign, false},
		{"a WebSocket from a foreign page", "GET", "/api/vms/x/terminal", append(socket, foreign...), true},
		{"a change from no page", "POST", "/api/vms/x/pause", nil, false},
	} {
		if resp := ask(c.method, c.path, "", c.headers...); (resp.StatusCode == http.StatusForbidden) != c.denied {
			t.Errorf("%s: %s", c.what, resp.Status)
		}
	}
	if resp := ask("OPTIONS", "/api/vms", "", append(preflight, "https://friend.test")...); resp.StatusCode != 204 ||
		resp.Header.Get("Access-Control-Allow-Origin") != "https://friend.test" {
		t.Errorf("a friend's preflight: %s %v", resp.Status, resp.Header)
	}
	resp := ask("OPTIONS", "/api/vms", "", append(preflight, "https://evil.test")...)
	if resp.StatusCode == 204 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a stranger's preflight: %s %v", resp.Status, resp.Header)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestAudit: the log says who did what, the newest first, page by page, and goes
// on where it ended.
func TestAudit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for round := range 2 {
		s, err := server.New(server.Options{Manager: h.m, Auth: h.keys, Audit: path, Version: "test",
			Guard: auth.Options{Local: func(*http.Request) bool { return true }}})
		if err != nil {
			t.Fatal(err)
		}
		other := *h
		other.Server = httptest.NewServer(s)
		other.do("POST", "/api/vms/nobody/pause", nil)
		other.do("DELETE", "/api/vms/nobody", nil)
		other.do("GET", "/api/vms", nil) // a look: not written down
		var page, rest []api.AuditEntry
		r := other.do("GET", "/api/audit?limit=1", nil)
		r.json(t, &page)
		other.do("GET", "/api/audit?after="+r.header.Get("Bandsox-Next"), nil).json(t, &rest)
		if len(page) != 1 || page[0].Method != "DELETE" || page[0].Kind != auth.Local || page[0].ID != int64(2*round+2) ||
			len(rest) != 2*round+1 || rest[0].Method != "POST" || rest[0].Status != 404 {
			t.Errorf("round %d: %+v, then %+v", round, page, rest)
		}
		other.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
