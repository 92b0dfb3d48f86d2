package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/web"
)

// TestFiles: what is embedded is whole, named by its hash, and all that the page
// asks for is there.
func TestFiles(t *testing.T) {
	page, ok := web.Open(web.Page)
	if !ok {
		t.Fatal("there is no page")
	}
	entries, err := os.ReadDir("dist")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		f, ok := web.Open(e.Name())
		if !ok || f.Type == "" || f.ETag == "" {
			t.Errorf("%s: %v, type %q, tag %q", e.Name(), ok, f.Type, f.ETag)
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(f.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, f.Body) {
			t.Errorf("%s: unpacked it is something else: %v", e.Name(), err)
		}
	}
	for part := range strings.SplitSeq(string(page.Body), `"/static/`) {
		name, _, _ := strings.Cut(part, `"`)
		if _, ok := web.Open(name); !ok && !strings.HasPrefix(part, "<!doctype") {
			t.Errorf("the page asks for %s", name)
		}
	}
	if bytes.Contains(page.Body, []byte("<style")) || bytes.Contains(page.Body, []byte("style=")) {
		t.Error("the page has a style of its own, which the policy stops")
	}
	if _, ok := web.Open("../web.go"); ok {
		t.Error("what isn't of the pages is served")
	}
}

// TestBundle: dist is what the sources give.
func TestBundle(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages: left out of -short")
	}
	for _, tool := range []string{"npm", "flock"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s for the sources of preact and xterm.js", tool)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "build/packages.sh").CombinedOutput(); err != nil {
		t.Skipf("the npm packages can't be fetched: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "build/node_modules/.bin/tsc", "-p", "build").CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "run", ".", "-out", dir)
	build.Dir = "build"
	if out, err := build.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "proxy") || strings.Contains(string(out), "dial tcp") {
			t.Skipf("esbuild can't be fetched: %s", out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	made, there := read(t, dir), read(t, "dist")
	for name, b := range made {
		if !bytes.Equal(b, there[name]) {
			t.Errorf("dist/%s is not what the sources give: make web", name)
		}
	}
	for name := range there {
		if _, ok := made[name]; !ok {
			t.Errorf("dist/%s is of no use: make web", name)
		}
	}
}

func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
