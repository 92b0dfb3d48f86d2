package client_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// TestHostileServerStaysOutside copies from a server that would like to write
// elsewhere.
func TestHostileServerStaysOutside(t *testing.T) {
	root := tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}
	for what, headers := range map[string][]tar.Header{
		"up":             {root, {Name: "../evil", Mode: 0o644, Size: 4}},
		"up inside":      {root, {Name: "a/../../evil", Mode: 0o644, Size: 4}},
		"by a symlink":   {root, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "l/evil", Mode: 0o644, Size: 4}},
		"by a hard link": {root, {Name: "evil", Typeflag: tar.TypeLink, Linkname: "../secret"}, {Name: "evil", Mode: 0o644, Size: 4}},
		"link to a link": {root, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../secret"}, {Name: "l", Mode: 0o644, Size: 4}, {Name: "m", Typeflag: tar.TypeLink, Linkname: "l"}},
		"no root":        {{Name: "evil", Mode: 0o644, Size: 4}},
		"nothing":        {},
	} {
		var archive bytes.Buffer
		tw := tar.NewWriter(&archive)
		for _, h := range headers {
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				io.WriteString(tw, "evil")
			}
		}
		tw.Close()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		sb := liar(t, func(w http.ResponseWriter) { w.Write(archive.Bytes()) })
		err := sb.CopyFrom(t.Context(), "/x", filepath.Join(dir, "target"), bandsox.CopyOptions{})
		if err == nil && what != "link to a link" {
			t.Errorf("%s: no error", what)
		}
		if b, rerr := os.ReadFile(filepath.Join(dir, "secret")); rerr != nil || string(b) != "secret" {
			t.Errorf("%s: the file beside holds %q", what, b)
		}
		if _, serr := os.Lstat(filepath.Join(dir, "evil")); serr == nil {
			t.Errorf("%s: it wrote outside (%v)", what, err)
		}
	}
	// One that promises more than it sends.
	local := filepath.Join(t.TempDir(), "f")
	for what, answer := range map[string]func(w http.ResponseWriter){
		"short": func(w http.ResponseWriter) {
			w.Header().Set("Bandsox-Stat", `{"type":"file","size":10}`)
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "12")
		},
		"no stat": func(w http.ResponseWriter) { fmt.Fprint(w, "12") },
	} {
		sb := liar(t, answer)
		if _, err := sb.Download(t.Context(), "/f", local, bandsox.TransferOptions{}); err == nil {
			t.Errorf("%s: no error", what)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(local), "*")); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
	}
}

// liar is a sandbox of a server that answers files with what it likes.
func liar(t *testing.T, answer func(http.ResponseWriter)) *client.Sandbox {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	mux.HandleFunc("/api/vms/x", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"x"}`) })
	mux.HandleFunc("/api/vms/x/", func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	ts := httptest.NewServer(mux)
	c, err := client.Dial(t.Context(), ts.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); ts.Close() })
	sb, err := c.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return sb
}
