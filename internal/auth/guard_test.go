package auth

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is a guard in front of routes that say who called.
type door struct {
	*Guard
	http.Handler
	mu     sync.Mutex
	events []Event
}

func newDoor(t *testing.T, s *Store, o Options) *door {
	t.Helper()
	d := &door{}
	o.Audit = func(e Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.events = append(d.events, e)
	}
	g, err := NewGuard(s, o)
	if err != nil {
		t.Fatal(err)
	}
	d.Guard = g
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	says := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, string(From(r.Context()).Kind))
	})
	sandbox := func(r *http.Request) string { return r.PathValue("id") }
	mux := http.NewServeMux()
	mux.Handle("/open", says)
	mux.Handle("/keys", g.Require(NeedAdmin, nil, says))
	mux.Handle("/list", g.Require(NeedAny, nil, says))
	mux.Handle("/look/{id}", g.Require(NeedRead, sandbox, says))
	mux.Handle("/use/{id}", g.Require(NeedUse, sandbox, says))
	mux.Handle("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	d.Handler = Headers("default-src 'self'", g.Authenticate(mux))
	return d
}

// call makes a request; each header is "Name: value".
func (d *door) call(method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "localhost:8000", "127.0.0.1:55555"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		switch name {
		case "Host":
			r.Host = value
		case "From":
			r.RemoteAddr = value
		default:
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

var upgrade = []string{"Connection: keep-alive, Upgrade", "Upgrade: WebSocket"}

func ws(headers ...string) []string { return slices.Concat(upgrade, headers) }

// TestWithoutKeys: whoever is on this machine may do everything, and no page of
// another site in their name.
func TestWithoutKeys(t *testing.T) {
	strict := newDoor(t, open(t), Options{Origins: []string{"https://ide.example.com"}})
	insecure := newDoor(t, open(t), Options{Insecure: true, Hosts: []string{"box.lan"}})
	const far = "From: 192.0.2.9:1"
	for _, c := range []struct {
		name    string
		door    *door
		method  string
		headers []string
		status  int
	}{
		{"here", strict, "POST", nil, 200},
		{"here, by IPv6", strict, "POST", []string{"From: [::1]:9", "Host: [::1]:8000"}, 200},
		{"from elsewhere", strict, "GET", []string{far}, 403},
		{"from elsewhere, insecure", insecure, "POST", []string{far}, 200},
		{"through a proxy", strict, "GET", []string{"X-Forwarded-For: 192.0.2.9"}, 403},
		{"through two", strict, "GET", []string{"X-Forwarded-For: 127.0.0.1, 192.0.2.9"}, 403},
		{"through a proxy, from here", strict, "GET", []string{"X-Forwarded-For: ::1"}, 200},
		{"through a modern proxy", strict, "GET", []string{"Forwarded: for=192.0.2.9"}, 403},
		{"rebound name", strict, "GET", []string{"Host: evil.com"}, 403},
		{"our name", insecure, "GET", []string{"Host: box.lan:8000"}, 200},
		{"another's name", insecure, "GET", []string{"Host: evil.com:8000"}, 403},
		{"our page", strict, "POST", []string{"Origin: http://localhost:8000"}, 200},
		{"our page, as browsers say", strict, "POST", []string{"Sec-Fetch-Site: same-origin"}, 200},
		{"another port's page", strict, "POST", []string{"Origin: http://localhost:3000"}, 403},
		{"another's page", strict, "POST", []string{"Origin: https://evil.com"}, 403},
		{"another's page, as browsers say", strict, "DELETE", []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.com"}, 403},
		{"a guest's page", strict, "POST", []string{"Sec-Fetch-Site: same-site", "Origin: http://80-x.localhost:8000"}, 403},
		{"a page of no origin", strict, "POST", []string{"Origin: null"}, 403},
		{"a listed page", strict, "POST", []string{"Sec-Fetch-Site: cross-site", "Origin: https://ide.example.com"}, 200},
		{"another's link", strict, "GET", []string{"Sec-Fetch-Site: cross-site"}, 200},
		{"another's WebSocket", strict, "GET", ws("Origin: https://evil.com"), 403},
		{"our WebSocket", strict, "GET", ws("Origin: http://localhost:8000"), 200},
		{"a program's WebSocket", strict, "GET", ws(), 200},
		{"any key", strict, "POST", []string{"Authorization: Bearer nonsense"}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			if w := c.door.call(c.method, "/keys", c.headers...); w.Code != c.status || w.Code == 200 && w.Body.String() != "anonymous" {
				t.Errorf("%d %s, want %d", w.Code, w.Body, c.status)
			}
		})
	}
	// Keys that are made while it runs are needed from then on.
	if _, err := strict.store.Init(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if w := strict.call("GET", "/list"); w.Code != 401 {
		t.Errorf("after auth init: %d %s", w.Code, w.Body)
	}
}

func TestWithKeys(t *testing.T) {
	const mine, other = "abcdefghij0123456789", "zzzzzzzzzzzzzzzzzzzz"
	s, made := enabled(t)
	key := func(name string, o KeyOptions) string {
		o.Name = name
		k, err := s.CreateKey(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return k.Key
	}
	read := key("read", KeyOptions{Scopes: []Scope{ScopeRead}})
	one := key("one", KeyOptions{Scopes: []Scope{OnSandbox(mine)}})
	old := key("old", KeyOptions{ExpiresAt: time.Now().Add(time.Hour)})
	d := newDoor(t, s, Options{Local: func(r *http.Request) bool { return r.RemoteAddr == "@" }})
	session, err := s.Login(t.Context(), made.Password)
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(k string) string { return "Authorization: Bearer " + k }
	cookie := "Cookie: other=1; bandsox_session=tossed; bandsox_session=" + session.Token
	proto := func(v string) string {
		return "Sec-WebSocket-Protocol: bandsox.terminal, bandsox.auth." + base64.RawURLEncoding.EncodeToString([]byte(v))
	}
	padded := "Sec-WebSocket-Protocol: bandsox.auth." + base64.URLEncoding.EncodeToString([]byte(session.Token))
	for _, c := range []struct {
		name, method, target string
		headers              []string
		want                 string // 200's body, or the status
	}{
		{"nobody", "GET", "/list", nil, "401"},
		{"nobody, an open route", "POST", "/open", nil, ""},
		{"admin", "POST", "/keys", []string{bearer(made.Key)}, "key"},
		{"scheme in small letters", "POST", "/keys", []string{"Authorization: bearer " + made.Key}, "key"},
		{"key from another site", "POST", "/keys", []string{bearer(made.Key), "Origin: https://evil.com"}, "key"},
		{"key under any name", "GET", "/keys", []string{bearer(made.Key), "Host: box.example.com"}, "key"},
		{"wrong key", "GET", "/list", []string{bearer(flip(made.Key, 20))}, "401"},
		{"the key's hash", "GET", "/list", []string{bearer(sha(made.Key))}, "401"},
		{"another scheme", "GET", "/list", []string{"Authorization: Basic " + made.Key}, "401"},
		{"session as a key", "GET", "/list", []string{bearer(session.Token)}, "401"},
		{"key as a cookie", "GET", "/list", []string{"Cookie: bandsox_session=" + made.Key}, "401"},
		{"read: looks", "GET", "/look/" + other, []string{bearer(read)}, "key"},
		{"read: runs", "POST", "/use/" + mine, []string{bearer(read)}, "403"},
		{"read: keys", "GET", "/keys", []string{bearer(read)}, "403"},
		{"one: runs", "POST", "/use/" + mine, []string{bearer(one)}, "key"},
		{"one: another", "POST", "/use/" + other, []string{bearer(one)}, "403"},
		{"one: lists", "GET", "/list", []string{bearer(one)}, "key"},
		{"cookie", "POST", "/keys", []string{cookie}, "session"},
		{"cookie from elsewhere", "POST", "/keys", []string{cookie, "From: 192.0.2.9:1"}, "session"},
		{"cookie and a guest's own key", "GET", "/keys", []string{cookie, bearer("theirs")}, "session"},
		{"cookie, our page", "POST", "/keys", []string{cookie, "Origin: http://localhost:8000"}, "session"},
		{"cookie, another's page", "POST", "/keys", []string{cookie, "Origin: https://evil.com"}, "403"},
		{"cookie, another's WebSocket", "GET", "/list", ws(cookie, "Origin: https://evil.com"), "403"},
		{"cookie, our WebSocket", "GET", "/list", ws(cookie, "Origin: http://localhost:8000"), "session"},
		{"query key", "GET", "/list?token=" + made.Key, ws(), "key"},
		{"query session", "GET", "/list?token=" + session.Token, ws("Origin: https://evil.com"), "session"},
		{"query, no WebSocket", "GET", "/list?token=" + made.Key, nil, "401"},
		{"query, half a WebSocket", "GET", "/list?token=" + made.Key, []string{"Upgrade: websocket"}, "401"},
		{"wrong query", "GET", "/list?token=x", ws(), "401"},
		{"protocol key", "GET", "/list", ws(proto(made.Key)), "key"},
		{"protocol session, padded", "GET", "/list", ws(padded), "session"},
		{"protocol, no base64", "GET", "/list", ws("Sec-WebSocket-Protocol: bandsox.auth.%%%"), "401"},
		{"protocol, no WebSocket", "GET", "/list", []string{proto(made.Key)}, "401"},
		{"unix socket", "POST", "/keys", []string{"From: @", "Host: whatever"}, "local"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := d.call(c.method, c.target, c.headers...)
			got := w.Body.String()
			if w.Code != 200 {
				got = http.StatusText(w.Code)
				if c.want == "401" && w.Code == 401 || c.want == "403" && w.Code == 403 {
					got = c.want
				}
			}
			if got != c.want {
				t.Errorf("%d %s, want %s", w.Code, w.Body, c.want)
			}
			if w.Code == 401 && (!strings.Contains(w.Body.String(), `"detail":"Unauthorized"`) || w.Header().Get("WWW-Authenticate") == "") {
				t.Errorf("not the reference's 401: %s", w.Body)
			}
		})
	}
	d.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if w := d.call("GET", "/list", bearer(old)); w.Code != 401 || !strings.Contains(w.Body.String(), "expired") {
		t.Errorf("an expired key: %d %s", w.Code, w.Body)
	}
}

func TestTicketOpensOneWebSocket(t *testing.T) {
	s, made := enabled(t)
	d := newDoor(t, s, Options{})
	who, _ := d.byKey(must(s.load()), made.Key)
	ticket := func() string {
		k, err := d.Ticket(With(t.Context(), who))
		if err != nil {
			t.Fatal(err)
		}
		return k.Ticket
	}
	a := ticket()
	if w := d.call("GET", "/list?ticket="+a); w.Code != 401 {
		t.Errorf("a plain request by ticket: %d", w.Code)
	}
	if w := d.call("GET", "/list?ticket="+a, upgrade...); w.Code != 200 {
		t.Errorf("the first WebSocket: %d %s", w.Code, w.Body)
	}
	if w := d.call("GET", "/list?ticket="+a, upgrade...); w.Code != 401 {
		t.Errorf("the second: %d", w.Code)
	}
	b := ticket()
	if err := s.RevokeKey(t.Context(), made.KeyID); err != nil {
		t.Fatal(err)
	}
	if w := d.call("GET", "/list?token="+b, upgrade...); w.Code != 401 {
		t.Errorf("the ticket of a key that was revoked: %d", w.Code)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestLoginAndLogout(t *testing.T) {
	s := open(t)
	d := newDoor(t, s, Options{})
	r := httptest.NewRequest("POST", "/api/auth/login", nil)
	_, err := d.Login(r, "x")
	wantCode(t, err, wire.NotFound)
	made, err := s.Init(t.Context(), "long enough")
	if err != nil {
		t.Fatal(err)
	}
	session, err := d.Login(r, made.Password)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	SetCookie(w, session, d.SecureCookies(r))
	want := "bandsox_session=" + session.Token + "; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
	if got := w.Header().Get("Set-Cookie"); got != want {
		t.Errorf("cookie %q, want %q", got, want)
	}
	w = httptest.NewRecorder()
	ClearCookie(w, true)
	if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || !c.Secure || c.Value != "" {
		t.Errorf("cleared cookie: %v", c)
	}
	cookie := "Cookie: bandsox_session=" + session.Token
	if w := d.call("GET", "/keys", cookie); w.Code != 200 {
		t.Fatalf("after login: %d", w.Code)
	}
	out := httptest.NewRequest("POST", "/api/auth/logout", nil)
	out.Header.Set("Cookie", strings.TrimPrefix(cookie, "Cookie: "))
	if err := d.Logout(out); err != nil {
		t.Fatal(err)
	}
	if w := d.call("GET", "/keys", cookie); w.Code != 401 {
		t.Errorf("after logout: %d", w.Code)
	}
	for range loginsPerWindow {
		_, err = d.Login(r, "wrong")
	}
	wantCode(t, err, wire.Exhausted)
	if RetryAfter(err) == 0 || Status(err) != 429 {
		t.Errorf("the limit: %d, retry after %v", Status(err), RetryAfter(err))
	}
}

func TestFileLostWhileServing(t *testing.T) {
	s, made := enabled(t)
	d := newDoor(t, s, Options{Insecure: true})
	write(t, s, "{")
	if w := d.call("GET", "/keys"); w.Code != 503 || !strings.Contains(w.Body.String(), `"hint"`) {
		t.Errorf("with half a file: %d %s", w.Code, w.Body)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	for _, headers := range [][]string{nil, {"Authorization: Bearer " + made.Key}} {
		if w := d.call("GET", "/keys", headers...); w.Code != 503 {
			t.Errorf("with no file: %d %s", w.Code, w.Body)
		}
	}
}

func TestRateAndLastUse(t *testing.T) {
	s, _ := enabled(t)
	k, err := s.CreateKey(t.Context(), KeyOptions{Name: "slow", Limits: Limits{RatePerMinute: 2}})
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, s, Options{})
	var codes []int
	var last *httptest.ResponseRecorder
	for range 3 {
		last = d.call("GET", "/list", "Authorization: Bearer "+k.Key)
		codes = append(codes, last.Code)
	}
	if !slices.Equal(codes, []int{200, 200, 429}) || last.Header().Get("Retry-After") == "" {
		t.Errorf("codes %v, %v", codes, last.Header())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys()
	if err != nil || keys[0].LastUsedAt != nil || keys[1].LastUsedAt == nil {
		t.Errorf("last use: %+v, %v", keys, err)
	}
}

func TestAudit(t *testing.T) {
	s, made := enabled(t)
	d := newDoor(t, s, Options{})
	bearer := "Authorization: Bearer " + made.Key
	d.call("GET", "/list", bearer)
	d.call("POST", "/list?token=secret", bearer)
	d.call("POST", "/list")
	d.call("GET", "/keys")
	d.call("GET", "/list?token="+made.Key, upgrade...)
	func() {
		defer func() { _ = recover() }()
		d.call("POST", "/panic", bearer)
	}()
	var got []string
	for _, e := range d.events {
		b, err := json.Marshal(e)
		if err != nil || strings.Contains(string(b), "token") || e.From != "127.0.0.1" || e.Time.IsZero() {
			t.Errorf("event %s, %v", b, err)
		}
		got = append(got, strings.Join([]string{string(e.Kind), e.KeyID, e.Method, e.Path, http.StatusText(e.Status)}, " "))
	}
	want := []string{
		"key " + made.KeyID + " POST /list OK",
		"  POST /list Unauthorized",
		"  GET /keys Unauthorized",
		"key " + made.KeyID + " GET /list OK",
		"key " + made.KeyID + " POST /panic Internal Server Error",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAuditedStreams: an audited answer can still be flushed and hijacked, and
// a WebSocket is in the log while it is open.
func TestAuditedStreams(t *testing.T) {
	s := open(t)
	events := make(chan Event, 10)
	g, err := NewGuard(s, Options{Audit: func(e Event) { events <- e }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsWebSocket(r) {
			w.WriteHeader(http.StatusAccepted)
			w.(http.Flusher).Flush()
			_, _ = io.Copy(w, strings.NewReader("body"))
			return
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if e := <-events; e.Status != http.StatusSwitchingProtocols {
			t.Errorf("event %+v", e)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
	})))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Post(srv.URL, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if e := <-events; string(b) != "body" || err != nil || e.Status != 202 {
		t.Errorf("%q, %v, event %+v", b, err, e)
	}
	req, _ := http.NewRequest("GET", srv.URL, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err = http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestCORS(t *testing.T) {
	s, made := enabled(t)
	for _, bad := range []string{"*", "example.com", "https://example.com/path"} {
		_, err := NewGuard(s, Options{Origins: []string{bad}})
		wantCode(t, err, wire.Invalid)
	}
	off := newDoor(t, s, Options{})
	on := newDoor(t, s, Options{Origins: []string{"https://ide.example.com"}})
	const listed, bearer = "Origin: https://ide.example.com", "Authorization: Bearer "
	ask := []string{listed, "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization"}
	if w := off.call("OPTIONS", "/list", ask...); w.Code != 401 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("off: %d %v", w.Code, w.Header())
	}
	w := on.call("OPTIONS", "/list", ask...)
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "https://ide.example.com" || w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("a listed origin asks: %d %v", w.Code, w.Header())
	}
	if w := on.call("DELETE", "/list", listed, bearer+made.Key); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a listed origin calls: %d %v", w.Code, w.Header())
	}
	if w := on.call("GET", "/list", "Origin: https://evil.com", bearer+made.Key); w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("Vary") != "Origin" {
		t.Errorf("another origin: %v", w.Header())
	}
	if h := on.call("GET", "/open").Header(); h.Get("Content-Security-Policy") != "default-src 'self'" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
		t.Errorf("security headers: %v", h)
	}
}

func TestStrip(t *testing.T) {
	key := keyPrefix + strings.Repeat("0", 64)
	r := httptest.NewRequest("GET", "/x?token="+key+"&q=1", nil)
	r.Header = http.Header{"Authorization": {"Bearer " + key}, "Cookie": {"a=1; bandsox_session=x; b=2"},
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Protocol": {"chat, bandsox.auth.eA"}}
	Strip(r)
	if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "a=1; b=2" ||
		r.Header.Get("Sec-Websocket-Protocol") != "chat" || r.URL.RawQuery != "q=1" {
		t.Errorf("%v %s", r.Header, r.URL)
	}
	r = httptest.NewRequest("GET", "/x?token=theirs", nil)
	r.Header.Set("Authorization", "Bearer theirs")
	Strip(r)
	if r.Header.Get("Authorization") != "Bearer theirs" || r.URL.RawQuery != "token=theirs" {
		t.Errorf("the guest's own were taken: %v %s", r.Header, r.URL)
	}
}
