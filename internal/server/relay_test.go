package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
)

// The fake guest's loopback is this machine's: what listens here is what a
// program in the sandbox would have listening there.

// guest is a sandbox with an HTTP server in it.
type guest struct {
	*house
	sb   *bandsox.Sandbox
	port int
}

func newGuest(t *testing.T, h http.Handler) *guest {
	t.Helper()
	house := newHouse(t)
	return &guest{house, house.create(bandsox.CreateOptions{}), serve(t, h)}
}

func serve(t *testing.T, h http.Handler) (port int) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// ways are the two ways to a guest's server, each as a request to be sent.
func (g *guest) ways(t *testing.T, f func(t *testing.T, to func(method, path string, body io.Reader) *http.Request)) {
	t.Run("path", func(t *testing.T) {
		f(t, func(method, path string, body io.Reader) *http.Request {
			return g.request(t, method, fmt.Sprintf("/proxy/%s/%d%s", g.sb.ID(), g.port, path), body)
		})
	})
	t.Run("host", func(t *testing.T) {
		f(t, func(method, path string, body io.Reader) *http.Request {
			r := g.request(t, method, path, body)
			r.Host = g.host()
			return r
		})
	})
}

func (g *guest) host() string { return fmt.Sprintf("%d-%s.localhost", g.port, g.sb.ID()) }

func (g *guest) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if g.key != "" {
		r.Header.Set("Authorization", "Bearer "+g.key)
	}
	return r
}

// send sends a request and follows no redirect.
func (h *house) send(t *testing.T, r *http.Request) reply {
	t.Helper()
	resp, err := h.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range resp.Trailer {
		resp.Header["Trailer:"+k] = v
	}
	return reply{resp.StatusCode, resp.Header, b}
}

func TestProxyPassesRequestsOn(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Sum")
		w.Header().Set("X-Guest", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %q te=%q conn=%q for=%q proto=%q prefix=%q ua=%q", r.Method, r.RequestURI, b, r.Header.Get("Te"),
			r.Header.Get("X-Hop"), r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Prefix"), r.UserAgent())
		w.Header().Set("Sum", "42")
	}))
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		for _, path := range []string{"/", "/a//b/../c", "/%2Fx%20y?q=%zz;&a=1", "//evil", "/a%2fb"} {
			r := to("PATCH", path, strings.NewReader("body"))
			r.Header.Set("Connection", "X-Hop")
			r.Header.Set("X-Hop", "mine")
			r.Header.Set("X-Forwarded-For", "6.6.6.6")
			r.Header.Set("X-Forwarded-Prefix", "/evil")
			r.Header.Set("User-Agent", "")
			got := g.send(t, r)
			prefix := ""
			if strings.HasPrefix(r.URL.Path, "/proxy/") {
				prefix = fmt.Sprintf("/proxy/%s/%d", g.sb.ID(), g.port)
			}
			want := fmt.Sprintf("PATCH %s %q te=%q conn=%q for=%q proto=%q prefix=%q ua=%q", path, "body", "", "", "127.0.0.1", "http", prefix, "")
			if got.status != http.StatusTeapot || string(got.body) != want || got.header.Get("X-Guest") != "yes" || got.header.Get("Trailer:Sum") != "42" {
				t.Errorf("%s: %d %v\n got %s\nwant %s", path, got.status, got.header, got.body, want)
			}
		}
	})
}

// TestProxyStreams: the first event is there before there is a second.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	next := make(chan bool)
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}))
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		resp, err := g.Client().Do(to("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for i := range 3 {
			if !lines.Scan() || lines.Text() != "data: "+strconv.Itoa(i) || !lines.Scan() {
				t.Fatalf("event %d: %q %v", i, lines.Text(), lines.Err())
			}
			next <- true
		}
		if lines.Scan() {
			t.Errorf("more: %q", lines.Text())
		}
	})
}

func TestProxyWebSocket(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			kind, b, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			if ws.Write(r.Context(), kind, append([]byte("echo "), b...)) != nil {
				return
			}
		}
	}))
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		r := to("GET", "/ws", nil)
		ws, resp, err := websocket.Dial(t.Context(), r.URL.String(), &websocket.DialOptions{Host: r.Host, HTTPClient: g.Client(), Subprotocols: []string{"chat"}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		if ws.Subprotocol() != "chat" || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("%q %d", ws.Subprotocol(), resp.StatusCode)
		}
		for i := range 20 {
			msg := strings.Repeat("x", i*1000)
			if err := ws.Write(t.Context(), websocket.MessageText, []byte(msg)); err != nil {
				t.Fatal(err)
			}
			if _, b, err := ws.Read(t.Context()); err != nil || string(b) != "echo "+msg {
				t.Fatalf("%q %v", b, err)
			}
		}
		if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
}

// zeros is n bytes that are nowhere.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	z.n -= n
	clear(p[:n])
	return int(n), nil
}

// peak watches how large this program's heap becomes, the server's and the
// guest's together.
func peak() (stop func() uint64) {
	quit, most := make(chan struct{}), uint64(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() uint64 { close(quit); wg.Wait(); return most }
}

// TestProxyHoldsNothing: large bodies up and down at once.
func TestProxyHoldsNothing(t *testing.T) {
	size, held := int64(200<<20), uint64(64<<20)
	if testing.Short() {
		size, held = 40<<20, 24<<20
	}
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n != size || err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		io.Copy(w, &zeros{size})
	}))
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		runtime.GC()
		stop := peak()
		resp, err := g.Client().Do(to("POST", "/", &zeros{size}))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if n != size || err != nil || resp.StatusCode != 200 {
			t.Errorf("%d: %d bytes of %d, %v", resp.StatusCode, n, size, err)
		}
		if most := stop(); most > held {
			t.Errorf("the heap had %d MiB for bodies of %d MiB", most>>20, size>>20)
		}
	})
}

// TestProxyClientLeaves: the guest's server sees it, up and down.
func TestProxyClientLeaves(t *testing.T) {
	t.Parallel()
	type end struct{ err error }
	ended := make(chan end, 1)
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					ended <- end{err}
					return
				}
			}
		}
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		_, err := io.Copy(io.Discard, r.Body)
		ended <- end{err}
	}))
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		for _, method := range []string{"GET", "POST"} {
			ctx, cancel := context.WithCancel(t.Context())
			var body io.Reader
			if method == "POST" {
				body = &zeros{1 << 40}
			}
			resp, err := g.Client().Do(to(method, "/", body).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			if method == "GET" {
				io.ReadFull(resp.Body, make([]byte, 1<<20))
			}
			cancel()
			resp.Body.Close()
			if e := <-ended; e.err == nil {
				t.Errorf("%s: the guest's server thinks that all went well", method)
			}
		}
	})
}

func TestProxyNothingListens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := &guest{h, h.create(bandsox.CreateOptions{}), freePort(t)}
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		got := g.send(t, to("GET", "/", nil))
		if got.status != 502 || got.field("code") != "unavailable" || !strings.Contains(fmt.Sprint(got.field("detail")), "nothing listens") || got.field("hint") == nil {
			t.Errorf("%d %s", got.status, got.body)
		}
		r := to("GET", "/", nil)
		r.Header.Set("Accept", "text/html,*/*")
		if got = g.send(t, r); got.status != 502 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") || !strings.Contains(string(got.body), "nothing listens") {
			t.Errorf("the page: %d %v %s", got.status, got.header, got.body)
		}
		for what, r := range map[string]*http.Request{
			"no port":      g.request(t, "GET", "/proxy/"+g.sb.ID()+"/http/", nil),
			"port 0":       g.request(t, "GET", "/proxy/"+g.sb.ID()+"/0/", nil),
			"port 65536":   g.request(t, "GET", "/proxy/"+g.sb.ID()+"/65536/", nil),
			"no port, end": g.request(t, "GET", "/proxy/"+g.sb.ID(), nil),
		} {
			if got := g.send(t, r); got.status != 400 {
				t.Errorf("%s: %d %s", what, got.status, got.body)
			}
		}
		if got := g.send(t, g.request(t, "GET", "/proxy/nobody/80/", nil)); got.status != 404 {
			t.Errorf("no sandbox: %d %s", got.status, got.body)
		}
	})
	if err := g.sb.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		if got := g.send(t, to("GET", "/", nil)); got.status != 503 || got.field("code") != "conflict" || got.field("hint") == nil {
			t.Errorf("stopped: %d %s", got.status, got.body)
		}
	})
}

// TestProxyNonsense: a server that speaks no HTTP, and one that stops half-way.
func TestProxyNonsense(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sb := h.create(bandsox.CreateOptions{})
	for what, says := range map[string]string{"no HTTP": "SSH-2.0-x\r\n", "nothing": "", "endless headers": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, says)
				c.Close()
			}
		}()
		got := h.do("GET", fmt.Sprintf("/proxy/%s/%d/", sb.ID(), l.Addr().(*net.TCPAddr).Port), nil)
		if got.status != 502 || got.field("code") != "unavailable" {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
		l.Close()
	}
}

// TestProxySandboxStops in the middle of an answer: it is broken off, not short.
func TestProxySandboxStops(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	resp, err := g.Client().Do(g.request(t, "GET", fmt.Sprintf("/proxy/%s/%d/", g.sb.ID(), g.port), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := g.sb.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a whole answer: %q", b)
	}
}

// raw sends bytes as they are and returns all that comes back.
func (g *guest) raw(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", g.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, request)
	b, _ := io.ReadAll(c)
	return string(b)
}

// TestProxySmugglesNothing: the guest's server sees each request as we do, or
// not at all, however its length is said.
func TestProxySmugglesNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, fmt.Sprintf("%s %s %q", r.Method, r.URL.Path, b))
		mu.Unlock()
		w.Header()["X-Length"] = r.Header["Content-Length"]
	}))
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	begin := "POST /first HTTP/1.1\r\nHost: " + g.host() + "\r\nConnection: close\r\n"
	for what, c := range map[string]struct {
		request, seen string
		refused       bool
	}{
		"CL and TE":        {begin + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(smuggled), smuggled), `POST /first ""`, false},
		"two lengths":      {begin + "Content-Length: 0\r\nContent-Length: 37\r\n\r\n" + smuggled, "", true},
		"TE twice":         {begin + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, "", true},
		"unknown TE":       {begin + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, "", true},
		"space before TE":  {begin + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, "", true},
		"folded TE":        {begin + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled, `POST /first ""`, false},
		"length with plus": {begin + "Content-Length: +5\r\n\r\n0\r\n\r\n" + smuggled, "", true},
		"bare CR in value": {begin + "X: a\rTransfer-Encoding: chunked\r\n\r\n", "", true},
	} {
		mu.Lock()
		seen = nil
		mu.Unlock()
		answer := g.raw(t, c.request)
		mu.Lock()
		got := strings.Join(seen, ", ")
		mu.Unlock()
		if c.refused != strings.HasPrefix(answer, "HTTP/1.1 4") && c.refused != strings.HasPrefix(answer, "HTTP/1.1 5") || got != c.seen {
			t.Errorf("%s: the guest saw %s\n%s", what, got, answer)
		}
	}
}

// TestProxyKeepsOurs: keys, sessions and tickets never reach a guest, and
// nothing of a guest's answer reaches beyond it.
func TestProxyKeepsOurs(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, c := range []string{"a=1; Domain=localhost; Path=/", "b=2; Path=/x", "bandsox_session=stolen; Path=/", "bandsox_guest=x", "c=3; HttpOnly"} {
			h.Add("Set-Cookie", c)
		}
		h.Set("Clear-Site-Data", `"*"`)
		h.Set("Service-Worker-Allowed", "/")
		h.Set("Strict-Transport-Security", "max-age=1")
		h.Set("Content-Security-Policy", "default-src 'self'")
		h.Set("X-Frame-Options", "SAMEORIGIN")
		fmt.Fprintf(w, "%v %v %s", r.Header["Authorization"], r.Header["Cookie"], r.URL.RawQuery)
	}))
	session := g.enable(t)
	made, err := g.keys.CreateKey(t.Context(), auth.KeyOptions{Name: "one", Scopes: []auth.Scope{auth.OnSandbox(g.sb.ID())}})
	if err != nil {
		t.Fatal(err)
	}
	g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
		r := to("GET", "/?a=1&bandsox_ticket=", nil)
		r.Header.Set("Authorization", "Bearer "+made.Key)
		r.Header.Set("Cookie", "x=1; bandsox_session="+session+"; bandsox_guest=bsx_g_1; y=2")
		got := g.send(t, r)
		if got.status != 200 || string(got.body) != "[] [x=1; y=2] a=1" {
			t.Errorf("the guest saw: %d %s", got.status, got.body)
		}
		byPath := r.Host == "" || !strings.Contains(r.Host, "-")
		prefix := fmt.Sprintf("/proxy/%s/%d", g.sb.ID(), g.port)
		want := "a=1; Path=/|b=2; Path=/x|c=3; HttpOnly"
		if byPath {
			want = fmt.Sprintf("a=1; Path=%s/|b=2; Path=%s/x|c=3; HttpOnly", prefix, prefix)
		}
		if cookies := strings.Join(got.header["Set-Cookie"], "|"); cookies != want {
			t.Errorf("cookies %s, want %s", cookies, want)
		}
		for _, k := range []string{"Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security"} {
			if has := got.header.Get(k) != ""; has == byPath {
				t.Errorf("%s: %v", k, has)
			}
		}
		policies := strings.Join(got.header["Content-Security-Policy"], "|")
		if byPath && (policies != "default-src 'self'|"+auth.GuestPolicy || got.header.Get("X-Frame-Options") != "DENY") ||
			!byPath && (policies != "default-src 'self'" || got.header.Get("X-Frame-Options") != "SAMEORIGIN") {
			t.Errorf("policies %s, frames %q", policies, got.header["X-Frame-Options"])
		}
		r = to("GET", "/", nil)
		r.Header.Set("Authorization", "Basic Z3Vlc3Q6b3du") // the guest's own
		r.Header.Add("Cookie", "bandsox_session="+session)
		if got := g.send(t, r); string(got.body) != "[Basic Z3Vlc3Q6b3du] [] " {
			t.Errorf("the guest's own: %d %s", got.status, got.body)
		}
	})
}

// enable turns keys on, and returns a session's token.
func (h *house) enable(t *testing.T) (session string) {
	t.Helper()
	made, err := h.keys.Init(t.Context(), "a long password")
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.keys.Login(t.Context(), "a long password")
	if err != nil {
		t.Fatal(err)
	}
	h.key = made.Key
	return s.Token
}

// TestProxyIsForThoseWhoMay: a key for one sandbox opens that one's servers only.
func TestProxyIsForThoseWhoMay(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "guest") }))
	other := g.create(bandsox.CreateOptions{})
	g.enable(t)
	admin := g.key
	key := func(scope auth.Scope) string {
		made, err := g.keys.CreateKey(t.Context(), auth.KeyOptions{Name: string(scope), Scopes: []auth.Scope{scope}})
		if err != nil {
			t.Fatal(err)
		}
		return made.Key
	}
	for _, c := range []struct {
		key    string
		status int
	}{{admin, 200}, {key(auth.OnSandbox(g.sb.ID())), 200}, {key(auth.ScopeUse), 200},
		{"", 401}, {key(auth.OnSandbox(other.ID())), 403}, {key(auth.ScopeRead), 403}} {
		g.key = c.key
		g.ways(t, func(t *testing.T, to func(string, string, io.Reader) *http.Request) {
			if got := g.send(t, to("GET", "/", nil)); got.status != c.status {
				t.Errorf("with %.12s: %d %s", c.key, got.status, got.body)
			}
		})
		if got := g.do("POST", "/api/vms/"+g.sb.ID()+"/http", map[string]any{"port": g.port}); got.status != c.status {
			t.Errorf("/http with %.12s: %d %s", c.key, got.status, got.body)
		}
	}
}

// TestGuestHostTicket: a browser's way in, with keys on.
func TestGuestHostTicket(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %v", r.RequestURI, r.Header["Cookie"])
	}))
	other := g.create(bandsox.CreateOptions{})
	g.enable(t)
	ticket := func() string { return fmt.Sprint(g.do("POST", "/api/auth/ticket", nil).field("ticket")) }
	visit := func(host, path, cookie string) reply {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", g.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		return g.send(t, r)
	}
	first := ticket()
	if got := visit(g.host(), "/", ""); got.status != 401 {
		t.Errorf("without: %d %s", got.status, got.body)
	}
	got := visit(g.host(), "//evil.example/a?x=1&bandsox_ticket="+url.QueryEscape(first)+"&y=2", "")
	set := got.header.Get("Set-Cookie")
	if got.status != 303 || got.header.Get("Location") != "/evil.example/a?x=1&y=2" || !strings.Contains(set, "HttpOnly; SameSite=Lax") || strings.Contains(set, "Domain") {
		t.Fatalf("%d %v", got.status, got.header)
	}
	cookie, _, _ := strings.Cut(set, ";")
	if got := visit(g.host(), "/page", cookie+"; own=1"); got.status != 200 || string(got.body) != "/page [own=1]" {
		t.Errorf("with the cookie: %d %s", got.status, got.body)
	}
	if got := visit(g.host(), "/?bandsox_ticket="+first, ""); got.status != 401 {
		t.Errorf("a ticket's second use: %d %s", got.status, got.body)
	}
	if got := visit(g.host(), "/?bandsox_ticket="+first, cookie); got.status != 303 {
		t.Errorf("a used ticket and the cookie: %d %s", got.status, got.body)
	}
	if got := visit(fmt.Sprintf("%d-%s.localhost", g.port, other.ID()), "/", cookie); got.status != 401 {
		t.Errorf("another sandbox with the cookie: %d %s", got.status, got.body)
	}
	if got := visit("", "/api/vms", cookie); got.status != 401 {
		t.Errorf("the API with the cookie: %d %s", got.status, got.body)
	}
	// What the ticket stood for ends, and so does the visit.
	made, err := g.keys.CreateKey(t.Context(), auth.KeyOptions{Name: "short"})
	if err != nil {
		t.Fatal(err)
	}
	g.key = made.Key
	set = visit(g.host(), "/?bandsox_ticket="+ticket(), "").header.Get("Set-Cookie")
	cookie, _, _ = strings.Cut(set, ";")
	if got := visit(g.host(), "/", cookie); got.status != 200 {
		t.Errorf("before the key is revoked: %d %s", got.status, got.body)
	}
	if err := g.keys.RevokeKey(t.Context(), made.KeyID); err != nil {
		t.Fatal(err)
	}
	if got := visit(g.host(), "/", cookie); got.status != 401 {
		t.Errorf("after the key was revoked: %d %s", got.status, got.body)
	}
}

// TestGuestHostIsNoneOfOurs: names of that shape never reach the API, and
// others do.
func TestGuestHostIsNoneOfOurs(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "guest "+r.Host+" "+r.URL.Path) }))
	name := "web"
	if err := g.sb.Update(t.Context(), bandsox.Update{Name: &name}); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		g.host() + ":8000":                         "guest " + g.host() + ":8000 /api/vms",
		strings.ToUpper(g.host()):                  "guest " + strings.ToUpper(g.host()) + " /api/vms",
		fmt.Sprintf("%d-web.localhost", g.port):    fmt.Sprintf("guest %d-web.localhost /api/vms", g.port),
		"localhost:8000":                           "[",
		"web.localhost":                            "[",
		fmt.Sprintf("%d-nobody.localhost", g.port): `{"detail":`,
	} {
		r := g.request(t, "GET", "/api/vms", nil)
		r.Host = host
		if got := g.send(t, r); !strings.HasPrefix(string(got.body), want) || strings.HasPrefix(want, "guest") && string(got.body) != want {
			t.Errorf("%s: %d %s", host, got.status, got.body)
		}
	}
}

func TestProxyRedirects(t *testing.T) {
	t.Parallel()
	where := ""
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", where)
		w.WriteHeader(302)
	}))
	prefix := fmt.Sprintf("/proxy/%s/%d", g.sb.ID(), g.port)
	self := fmt.Sprintf("http://localhost:%d", g.port)
	for _, c := range [][2]string{
		{"/login?next=/a#x", prefix + "/login?next=/a#x"},
		{"login", "login"},
		{"?page=2", "?page=2"},
		{self + "/a", prefix + "/a"},
		{fmt.Sprintf("http://127.0.0.1:%d", g.port), prefix + "/"},
		{g.URL + prefix + "/a", prefix + "/a"},
		{prefix + "/a", prefix + "/a"},
		{"https://example.com/a", "https://example.com/a"},
		{"//example.com/a", "//example.com/a"},
		{"mailto:a@example.com", "mailto:a@example.com"},
	} {
		where = c[0]
		if got := g.send(t, g.request(t, "GET", prefix+"/", nil)); got.status != 302 || got.header.Get("Location") != c[1] {
			t.Errorf("%s: %d %q, want %q", c[0], got.status, got.header.Get("Location"), c[1])
		}
	}
	if got := g.send(t, g.request(t, "GET", prefix+"?q=1", nil)); got.status != 308 || got.header.Get("Location") != prefix+"/?q=1" {
		t.Errorf("without a slash: %d %q", got.status, got.header.Get("Location"))
	}
}

// TestProxyContinue: a body is not sent before the guest's server wants it.
func TestProxyContinue(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	begin := "Host: " + g.host() + "\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	if got := g.raw(t, "POST /no HTTP/1.1\r\n"+begin); !strings.HasPrefix(got, "HTTP/1.1 403") {
		t.Errorf("refused: %s", got)
	}
	got := g.raw(t, "POST /yes HTTP/1.1\r\n"+begin+"12345")
	if !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200") || !strings.HasSuffix(got, "\r\n\r\n5") {
		t.Errorf("wanted: %s", got)
	}
}

// TestProxyEndsWithTheServer: what goes on without end ends when streams do.
func TestProxyEndsWithTheServer(t *testing.T) {
	t.Parallel()
	left := make(chan bool, 1)
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err == nil {
			_, _, err = ws.Read(r.Context())
			ws.CloseNow()
		}
		left <- err != nil
	}))
	ws, _, err := websocket.Dial(t.Context(), fmt.Sprintf("%s/proxy/%s/%d/", g.URL, g.sb.ID(), g.port), &websocket.DialOptions{HTTPClient: g.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	g.Config.Handler.(interface{ EndStreams() }).EndStreams()
	if _, _, err := ws.Read(t.Context()); err == nil {
		t.Error("it goes on")
	}
	if !<-left {
		t.Error("the guest's server was told nothing")
	}
}
