package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

// receiver is somebody else's server. It refuses the first deliveries.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	refuse int
	seen   []string        // deliveries, the refused too
	taken  map[string]bool // those that were not: one may come twice
	got    chan bandsox.Event
}

func newReceiver(t *testing.T, secret func() string) *receiver {
	r := &receiver{got: make(chan bandsox.Event, 100), taken: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		stamp, sum, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Bandsox-Signature"), "t="), ",v1=")
		mac := hmac.New(sha256.New, []byte(secret()))
		io.WriteString(mac, stamp+"."+string(body))
		if hex.EncodeToString(mac.Sum(nil)) != sum {
			t.Errorf("the signature is wrong: %q", req.Header.Get("Bandsox-Signature"))
		}
		var e bandsox.Event
		if err := json.Unmarshal(body, &e); err != nil || e.Type != req.Header.Get("Bandsox-Event") {
			t.Errorf("got %s (%v) as %s", body, err, req.Header.Get("Bandsox-Event"))
		}
		r.mu.Lock()
		delivery := req.Header.Get("Bandsox-Delivery")
		r.seen = append(r.seen, delivery)
		refused, again := r.refuse > 0, r.taken[delivery]
		r.refuse--
		r.taken[delivery] = again || !refused
		r.mu.Unlock()
		if refused {
			http.Error(w, "not now", http.StatusInternalServerError)
			return
		}
		if !again {
			r.got <- e
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) next(t *testing.T) bandsox.Event {
	t.Helper()
	select {
	case e := <-r.got:
		return e
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was sent")
		panic("")
	}
}

func TestWebhooksTellInOrderAndAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	open := func() (*house, func()) {
		s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "auth.json")), Log: quiet, Webhooks: filepath.Join(dir, "webhooks.json")})
		if err != nil {
			t.Fatal(err)
		}
		h := &house{Server: httptest.NewServer(s), t: t, m: m}
		return h, func() {
			s.EndStreams()
			h.Client().CloseIdleConnections()
			h.Close()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	var secret string
	r := newReceiver(t, func() string { return secret })
	r.refuse = 1
	h, shut := open()
	secret = "not yet known"
	made := h.do("POST", "/api/webhooks", map[string]any{"url": r.URL, "types": []string{"ready", "deleted"}, "secret": "s3cret"})
	if made.status != 200 || made.field("secret") != "s3cret" {
		t.Fatalf("%d %s", made.status, made.body)
	}
	secret = "s3cret"
	sb := h.create(bandsox.CreateOptions{})
	if e := r.next(t); e.Type != bandsox.EventReady || e.Sandbox != sb.ID() {
		t.Errorf("got %+v", e)
	}
	r.mu.Lock()
	if len(r.seen) != 2 || r.seen[0] != r.seen[1] {
		t.Errorf("it was refused once, and sent as %v", r.seen)
	}
	r.mu.Unlock()
	if list := h.do("GET", "/api/webhooks", nil); strings.Contains(string(list.body), "s3cret") {
		t.Errorf("the list tells the secret: %s", list.body)
	}
	shut()

	// What happens while there is no server is sent by the next.
	if err := sb.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, shut = open()
	defer shut()
	if e := r.next(t); e.Type != bandsox.EventDeleted {
		t.Errorf("got %+v", e)
	}
	if gone := h.do("DELETE", "/api/webhooks/"+made.field("id").(string), nil); gone.status != 200 {
		t.Errorf("delete: %d %s", gone.status, gone.body)
	}
	for _, bad := range []any{map[string]any{"url": "file:///etc/passwd"}, map[string]any{"url": "x"}, map[string]any{}, map[string]any{"url": r.URL, "after": 1 << 40}} {
		if got := h.do("POST", "/api/webhooks", bad); got.status != 400 && got.status != 422 {
			t.Errorf("%v: %d %s", bad, got.status, got.body)
		}
	}
	if got := h.do("DELETE", "/api/webhooks/none", nil); got.status != 404 {
		t.Errorf("none: %d", got.status)
	}
}

// TestWebhookUnderWay: an event that is being sent when the server ends is
// waited for, and isn't sent again by the next.
func TestWebhookUnderWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	came, answer := make(chan struct{}), make(chan struct{})
	r := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		came <- struct{}{}
		<-answer
	}))
	defer r.Close()
	open := func() *server.Server {
		s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "auth.json")), Log: quiet, Webhooks: filepath.Join(dir, "webhooks.json")})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	h := &house{Server: httptest.NewServer(s), t: t, m: m}
	if made := h.do("POST", "/api/webhooks", map[string]any{"url": r.URL, "types": []string{"ready"}}); made.status != 200 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	sb := h.create(bandsox.CreateOptions{})
	<-came
	s.EndStreams()
	close(answer)
	h.Client().CloseIdleConnections()
	h.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := sb.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	h = &house{Server: httptest.NewServer(open()), t: t, m: m}
	s = h.Config.Handler.(*server.Server)
	var list []api.Webhook
	h.do("GET", "/api/webhooks", nil).json(t, &list)
	if len(list) != 1 || list[0].Delivered < 2 {
		t.Errorf("it is to be sent again: %+v", list)
	}
	h.Client().CloseIdleConnections()
	h.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
