package server_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

// TestDocumentIsCommitted holds docs/openapi.json to what the server says.
func TestDocumentIsCommitted(t *testing.T) {
	t.Parallel()
	s, err := server.New(server.Options{Auth: auth.Open(filepath.Join(t.TempDir(), "auth.json")), Version: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("..", "..", "docs", "openapi.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.json is not what the routes are (%v): go test ./internal/server -run Document -update", err)
	}
}

func TestDocumentIsServed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	doc := h.do("GET", "/openapi.json", nil)
	if doc.status != 200 || doc.field("openapi") != "3.1.0" {
		t.Errorf("%d %.100s", doc.status, doc.body)
	}
	page := h.do("GET", "/docs", nil)
	for _, want := range []string{"/api/vms/{id}/pause", "Throw a sandbox away", `href="#type-Info"`, "/docs/style.css"} {
		if page.status != 200 || !strings.Contains(string(page.body), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(string(page.body), "<script") || strings.Contains(string(page.body), "://") && strings.Contains(string(page.body), "src=") {
		t.Error("the page has a script, or something from elsewhere")
	}
	if css := h.do("GET", "/docs/style.css", nil); css.status != 200 || !strings.HasPrefix(css.header.Get("Content-Type"), "text/css") {
		t.Errorf("its style: %d", css.status)
	}
}
