package server_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "elsewhere") }))
	g := newGuest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/binary":
			w.Write([]byte{'a', 0xff, 0xfe, 'b'})
		case "/large":
			io.Copy(w, &zeros{16<<20 + 1})
		case "/slow":
			<-r.Context().Done()
		case "/here":
			http.Redirect(w, r, "/echo?hop=1", http.StatusTemporaryRedirect)
		case "/away":
			http.Redirect(w, r, fmt.Sprintf("http://localhost:%d/", elsewhere), http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			b, _ := io.ReadAll(r.Body)
			w.Header().Add("X-Two", "1")
			w.Header().Add("X-Two", "2")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, "%s %s %s %s %s %s", r.Method, r.RequestURI, r.Host, r.Header.Get("Content-Type"), r.Header.Get("X-A"), b)
		}
	}))
	path := "/api/vms/" + g.sb.ID() + "/http"
	ask := func(body map[string]any) reply {
		t.Helper()
		if body["port"] == nil {
			body["port"] = g.port
		}
		return g.do("POST", path, body)
	}
	host := fmt.Sprintf("localhost:%d", g.port)
	for _, c := range []struct {
		body map[string]any
		want string
	}{
		{map[string]any{}, "GET / " + host + "   "},
		{map[string]any{"path": "/a?b=c%20d", "method": "delete", "headers": nil, "body": nil, "json_body": nil}, "DELETE /a?b=c%20d " + host + "   "},
		{map[string]any{"method": "POST", "body": "text", "headers": map[string]string{"X-A": "ä", "Host": "own.example"}}, "POST / own.example  ä text"},
		{map[string]any{"method": "PUT", "json_body": map[string]any{"n": 1}}, "PUT / " + host + ` application/json  {"n":1}`},
		{map[string]any{"method": "POST", "path": "/here", "body": "again"}, "POST /echo?hop=1 " + host + "   again"},
		{map[string]any{"path": "//x"}, "GET //x " + host + "   "},
	} {
		got := ask(c.body)
		if got.status != 200 || got.field("body") != c.want || got.field("status_code") != 201.0 || got.field("headers").(map[string]any)["X-Two"] != "1, 2" || got.field("body_base64") != nil {
			t.Errorf("%v: %d %s, want %q", c.body, got.status, got.body, c.want)
		}
	}
	if got := ask(map[string]any{"path": "/binary"}); got.field("body") != "a\uFFFDb" || got.field("body_base64") != base64.StdEncoding.EncodeToString([]byte{'a', 0xff, 0xfe, 'b'}) {
		t.Errorf("binary: %s", got.body)
	}
	if got := ask(map[string]any{"path": "/away"}); got.status != 200 || got.field("status_code") != 302.0 {
		t.Errorf("a redirect elsewhere: %s", got.body)
	}
	for _, c := range []struct {
		body   map[string]any
		status int
		text   string
	}{
		{map[string]any{"path": "/large"}, 413, "16 MiB"},
		{map[string]any{"path": "/slow", "timeout": 0.2}, 504, "did not answer"},
		{map[string]any{"path": "/loop"}, 503, "redirects"},
		{map[string]any{"path": "x"}, 400, "path"},
		{map[string]any{"path": "/a b\n"}, 400, "path"},
		{map[string]any{"method": "GET /"}, 400, "method"},
		{map[string]any{"headers": map[string]string{"X": "a\r\nY: b"}}, 400, "header"},
		{map[string]any{"headers": map[string]string{"Transfer-Encoding": "chunked"}}, 400, "header"},
		{map[string]any{"body": "a", "json_body": 1}, 400, "body"},
		{map[string]any{"timeout": -1}, 400, "timeout"},
		{map[string]any{"port": 0}, 422, "port"},
		{map[string]any{"port": 1}, 503, "nothing listens"},
	} {
		if got := ask(c.body); got.status != c.status || !strings.Contains(string(got.body), c.text) {
			t.Errorf("%v: %d %s, want %d %s", c.body, got.status, got.body, c.status, c.text)
		}
	}
	if got := g.do("POST", "/api/vms/nobody/http", map[string]any{"port": 80}); got.status != 404 || got.field("detail") != "VM not found" {
		t.Errorf("no sandbox: %d %s", got.status, got.body)
	}
	if err := g.sb.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(map[string]any{}); got.status != 404 {
		t.Errorf("stopped: %d %s", got.status, got.body)
	}
}

// TestDialSocket connects to a port as the client does, by hand.
func TestDialSocket(t *testing.T) {
	t.Parallel()
	g := newGuest(t, http.NotFoundHandler())
	port := listenRaw(t, func(c io.ReadWriteCloser) { io.Copy(c, c) })
	at := func(port any) string { return fmt.Sprintf("%s/api/vms/%s/dial?port=%v", g.URL, g.sb.ID(), port) }
	ws, _, err := websocket.Dial(t.Context(), at(port), &websocket.DialOptions{HTTPClient: g.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	sent := strings.Repeat("there and back ", 100_000)
	go func() {
		w, err := ws.Writer(t.Context(), websocket.MessageBinary)
		if err == nil {
			io.WriteString(w, sent)
			w.Close()
			ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"end"}`))
		}
	}()
	var got strings.Builder
	ended := false
	for {
		kind, b, err := ws.Read(t.Context())
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Errorf("closed with %v", err)
			}
			break
		}
		if kind == websocket.MessageText {
			ended = string(b) == `{"type":"end"}`
			continue
		}
		got.Write(b)
	}
	if got.String() != sent || !ended {
		t.Errorf("%d bytes of %d, end %v", got.Len(), len(sent), ended)
	}
	for port, status := range map[any]int{1: 502, 0: 400, "x": 400, "": 400} {
		_, resp, err := websocket.Dial(t.Context(), at(port), &websocket.DialOptions{HTTPClient: g.Client()})
		if err == nil || resp.StatusCode != status {
			t.Errorf("port %v: %v", port, err)
		}
	}
	if got := g.do("GET", fmt.Sprintf("/api/vms/%s/dial?port=%d", g.sb.ID(), port), nil); got.status != 400 {
		t.Errorf("no WebSocket: %d %s", got.status, got.body)
	}
	// A frame that means nothing, and a server that goes away.
	ws, _, err = websocket.Dial(t.Context(), at(port), &websocket.DialOptions{HTTPClient: g.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ws.Write(t.Context(), websocket.MessageText, []byte("hello"))
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("closed with %v", err)
	}
	ws.CloseNow()
	ws, _, err = websocket.Dial(t.Context(), at(port), &websocket.DialOptions{HTTPClient: g.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := g.sb.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError {
		t.Errorf("killed, and closed with %v", err)
	}
}

// listenRaw serves connections with f.
func listenRaw(t *testing.T, f func(io.ReadWriteCloser)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				f(c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}
