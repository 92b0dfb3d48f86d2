package bandsox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestQEMUDial gets a file from a web server in a real guest, which has no
// network but its own loopback.
func TestQEMUDial(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	if out, _ := exec.Command("busybox", "--list").Output(); !strings.Contains(string(out), "httpd") {
		t.Skip("needs a busybox with httpd: apt-get install busybox-static")
	}
	m := openReal(t, cfg)
	sb := create(t, m, CreateOptions{Image: image})
	const port = 8080
	if _, err := sb.Dial(t.Context(), port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("nothing listens: %v", err)
	}
	sent := make([]byte, 8<<20+1)
	rand.Read(sent)
	if err := sb.WriteFile(t.Context(), "/www/data", sent, 0); err != nil {
		t.Fatal(err)
	}
	if err := sb.Command("busybox", "httpd", "-p", "127.0.0.1:8080", "-h", "/www").Run(t.Context()); err != nil { // it goes into the background
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return sb.Dial(ctx, port) }}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	for _, c := range []struct {
		path   string
		status int
	}{{"/data", 200}, {"/missing", 404}, {"/data", 200}} {
		resp, err := client.Get("http://guest" + c.path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || c.status == 200 && !bytes.Equal(got, sent) {
			t.Errorf("%s: %d, %d bytes of %d, %v", c.path, resp.StatusCode, len(got), len(sent), err)
		}
	}
}
