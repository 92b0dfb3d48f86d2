package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestNothingIsDroppedInSilence: what isn't offered is refused, and a body that
// ends early is the sender's fault.
func TestNothingIsDroppedInSilence(t *testing.T) {
	h := newHouse(t)
	got := h.do("POST", "/api/vms", map[string]any{"image": vmtest.Image(t), "mcp": map[string]any{"fetch": map[string]any{}}})
	if got.status != http.StatusServiceUnavailable || got.field("code") != "unavailable" || got.field("hint") == "" {
		t.Errorf("mcp: %d %s", got.status, got.body)
	}
	h.create(bandsox.CreateOptions{Image: vmtest.Image(t), Name: "ann"})
	if got := h.do("POST", "/api/webhooks", map[string]any{"url": "http://127.0.0.1:9/", "types": []string{"craeted"}}); got.status != http.StatusBadRequest {
		t.Errorf("a webhook for events that never are: %d %s", got.status, got.body)
	}
	nameless := h.create(bandsox.CreateOptions{Image: vmtest.Image(t)})
	if got := h.do("GET", "/api/vms/"+nameless.ID()[:8], nil); got.field("name") != "" {
		t.Errorf("the name of one that has none, by the beginning of its id: %d %s", got.status, got.body)
	}
	u, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /api/vms/ann/file?path=/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a body of 3 bytes of 10: %d", resp.StatusCode)
	}
}
