package auth

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestSelfSigned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tls.pem")
	hosts := []string{"localhost", "127.0.0.1", "::1", "box.lan"}
	c, err := SelfSigned(t.Context(), path, hosts)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	print := c.Fingerprint()
	if len(print) != 32*3-1 || strings.Trim(print, "0123456789ABCDEF:") != "" {
		t.Errorf("fingerprint %q", print)
	}
	again, err := SelfSigned(t.Context(), path, hosts[:2])
	if err != nil || again.Fingerprint() != print {
		t.Errorf("the next start has another: %v", err)
	}
	if c.good(hosts, time.Now().Add(selfSignedTime-renewBefore/2)) {
		t.Error("it would run out before it is renewed")
	}

	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "safe") }))
	srv.TLS = c.Config()
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(c.loaded.Leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "box.lan"}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "safe" {
		t.Errorf("%q", b)
	}

	// Another name needs another certificate, which the running server takes up.
	other, err := SelfSigned(t.Context(), path, []string{"other.lan"})
	if err != nil || other.Fingerprint() == print {
		t.Fatalf("for another name: %v", err)
	}
	if _, err := c.get(nil); err != nil || c.Fingerprint() != other.Fingerprint() {
		t.Errorf("the new file is not noticed: %v", err)
	}
	// A half-written one is not taken up, and not thrown away by a new start.
	if err := os.WriteFile(path, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.get(nil); err != nil {
		t.Errorf("half a file took the certificate away: %v", err)
	}
	_, err = SelfSigned(t.Context(), path, hosts)
	wantCode(t, err, wire.Unavailable)
	_, err = LoadCertificate(path, path)
	wantCode(t, err, wire.Invalid)
}

func TestCredentials(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SUDO_USER", "")
	if key, err := LoadKey(); key != "" || err != nil {
		t.Fatalf("%q, %v", key, err)
	}
	path := filepath.Join(home, ".bandsox", "credentials")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"api_key": "old", "server_url": "http://box"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if key, err := LoadKey(); key != "old" || err != nil {
		t.Errorf("%q, %v", key, err)
	}
	if got, err := SaveKey("new"); got != path || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	b, _ := os.ReadFile(path)
	info, _ := os.Stat(path)
	if key, _ := LoadKey(); key != "new" || !strings.Contains(string(b), "http://box") || info.Mode().Perm() != 0o600 {
		t.Errorf("%q in %s, mode %v", key, b, info.Mode())
	}
	if err := os.WriteFile(path, []byte(`{"api_key"`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := SaveKey("x")
	wantCode(t, err, wire.Invalid)

	// A link out of the home is not followed.
	outside := t.TempDir()
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := SaveKey("x"); err == nil {
		t.Error("a link out of the home was followed")
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}
}
