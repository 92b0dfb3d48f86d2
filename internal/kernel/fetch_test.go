package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// flaky serves one file, and drops each of the first cuts connections after
// some bytes of body.
type flaky struct {
	body    []byte
	etag    string
	noRange bool
	cuts    int
	after   int
	change  func(*flaky) // called after each cut

	requests, resumed int
}

func (s *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests++
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	if s.noRange {
		r.Header.Del("Range")
	}
	if r.Header.Get("Range") != "" && r.Header.Get("If-Range") == s.etag {
		s.resumed++
	}
	if s.cuts == 0 {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
		return
	}
	s.cuts--
	http.ServeContent(&cutWriter{w, s.after}, r, "", time.Time{}, bytes.NewReader(s.body))
	if s.change != nil {
		s.change(s)
	}
	panic(http.ErrAbortHandler) // closes the connection
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		p = p[:c.left]
		c.ResponseWriter.Write(p)
		c.left = 0
		c.ResponseWriter.(http.Flusher).Flush()
		return len(p), errors.New("cut")
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// fetched is what Fetch makes of a server's file, which must be alone.
func fetched(t *testing.T, h http.Handler, o FetchOptions) ([]byte, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "file")
	err := Fetch(t.Context(), srv.URL+"/file", path, o)
	left, _ := filepath.Glob(path + "*")
	if want := []string{path}; err == nil && (len(left) != 1 || left[0] != want[0]) || err != nil && len(left) > 0 && left[0] == path {
		t.Errorf("left behind: %v", left)
	}
	b, _ := os.ReadFile(path)
	return b, err
}

func TestFetchResumes(t *testing.T) {
	body := noise(3 << 20)
	for _, c := range []*struct {
		name    string
		srv     flaky
		resumed int
	}{
		{"whole", flaky{etag: `"a"`}, 0},
		{"cut twice", flaky{etag: `"a"`, cuts: 2, after: 1 << 20}, 2},
		{"no ranges", flaky{etag: `"a"`, cuts: 2, after: 1 << 20, noRange: true}, 0},
		{"no validator", flaky{cuts: 2, after: 1 << 20}, 0},
		{"weak validator", flaky{etag: `W/"a"`, cuts: 1, after: 1 << 20}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.srv.body = body
			got, err := fetched(t, &c.srv, FetchOptions{SHA256: sum(body)})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, body) {
				t.Error("it isn't the file")
			}
			if c.srv.resumed != c.resumed {
				t.Errorf("resumed %d times, want %d", c.srv.resumed, c.resumed)
			}
		})
	}
}

// TestFetchChanged: the file on the server becomes another between attempts.
func TestFetchChanged(t *testing.T) {
	t.Parallel()
	before, after := noise(2<<20), noise(2<<20+7)
	s := &flaky{body: before, etag: `"a"`, cuts: 1, after: 1 << 20, change: func(s *flaky) { s.body, s.etag = after, `"b"` }}
	got, err := fetched(t, s, FetchOptions{})
	if err != nil || !bytes.Equal(got, after) {
		t.Errorf("got %d bytes, %v, want the new file", len(got), err)
	}
}

// TestFetchLyingServer: it says the same validator of other bytes; the sum
// finds out, and one clean try mends it.
func TestFetchLyingServer(t *testing.T) {
	t.Parallel()
	before, after := noise(2<<20), noise(2<<20+7)
	after = after[:2<<20]
	s := &flaky{body: before, etag: `"a"`, cuts: 1, after: 1 << 20, change: func(s *flaky) { s.body = after }}
	got, err := fetched(t, s, FetchOptions{SHA256: sum(after)})
	if err != nil || !bytes.Equal(got, after) {
		t.Errorf("got %d bytes, %v, want the new file", len(got), err)
	}
	if s.requests != 3 {
		t.Errorf("%d requests, want 3", s.requests)
	}
}

// TestFetchContinuesAfterDeath: what a killed process left is gone on with.
func TestFetchContinuesAfterDeath(t *testing.T) {
	t.Parallel()
	body := noise(2 << 20)
	s := &flaky{body: body, etag: `"a"`}
	srv := httptest.NewServer(s)
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "file")
	ctx, cancel := context.WithCancel(t.Context())
	enough := func(string, int64, int64) { cancel() } // with the first bytes
	if err := Fetch(ctx, srv.URL+"/f", path, FetchOptions{Progress: enough}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled download: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("half a file has the whole one's name")
	}
	if err := Fetch(t.Context(), srv.URL+"/f", path, FetchOptions{SHA256: sum(body)}); err != nil {
		t.Fatal(err)
	}
	if s.resumed != 1 {
		t.Errorf("resumed %d times, want 1", s.resumed)
	}
	// Bytes of another boot of this host, or of another URL, count for nothing.
	os.WriteFile(path+".part", body[:100], 0o644)
	os.WriteFile(path+".part.json", []byte(`{"url":"`+sum([]byte(srv.URL+"/f"))+`","validator":"\"a\"","total":2097152,"boot":"another"}`), 0o644)
	if err := Fetch(t.Context(), srv.URL+"/f", path, FetchOptions{}); err != nil || s.resumed != 1 {
		t.Errorf("resumed %d times, %v, want 1", s.resumed, err)
	}
}

func TestFetchRefuses(t *testing.T) {
	body := noise(100_000)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, c := range []struct {
		name string
		h    http.Handler
		o    FetchOptions
		code wire.Code
	}{
		{"wrong sum", &flaky{body: body}, FetchOptions{SHA256: sum(nil)}, wire.Invalid},
		{"no sum at all", &flaky{body: body}, FetchOptions{SHA256: "abc"}, wire.Invalid},
		{"too big", &flaky{body: body}, FetchOptions{MaxBytes: 99_999}, wire.Exhausted},
		{"too big, unsaid", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(body)
		}), FetchOptions{MaxBytes: 99_999}, wire.Exhausted},
		{"missing", status(404), FetchOptions{}, wire.NotFound},
		{"forbidden", status(403), FetchOptions{}, wire.Denied},
		{"broken", status(503), FetchOptions{Attempts: 2}, wire.Unavailable},
		{"never whole", &flaky{body: body, cuts: 99}, FetchOptions{Attempts: 2}, wire.Unavailable},
		{"to plain text", http.RedirectHandler("gopher://x/", http.StatusFound), FetchOptions{Attempts: 1}, wire.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := fetched(t, c.h, c.o)
			if wire.CodeOf(err) != c.code || got != nil {
				t.Errorf("%d bytes, %v, want %s", len(got), err, c.code)
			}
		})
	}
}

// TestFetchLeavesNothingUseless: of a download that failed only what a later
// one can go on from stays.
func TestFetchLeavesNothingUseless(t *testing.T) {
	body := noise(100_000)
	for _, c := range []struct {
		name string
		h    http.Handler
		left int
	}{
		{"no byte", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), 0},
		{"nobody there", http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound), 0},
		{"no validator", &flaky{body: body, cuts: 99, after: 10_000}, 0},
		{"half a file", &flaky{body: body, etag: `"a"`, cuts: 99, after: 10_000, noRange: true}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(c.h)
			defer srv.Close()
			dir := t.TempDir()
			if err := Fetch(t.Context(), srv.URL, filepath.Join(dir, "file"), FetchOptions{Attempts: 1}); wire.CodeOf(err) != wire.Unavailable {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != c.left {
				t.Errorf("left %v, %v, want %d files", left, err, c.left)
			}
		})
	}
}

func TestFetchStalls(t *testing.T) {
	t.Parallel()
	quit := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		<-quit
	})
	defer close(quit)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.CloseClientConnections)
	path := filepath.Join(t.TempDir(), "file")
	err := Fetch(t.Context(), srv.URL, path, FetchOptions{Stall: 50 * time.Millisecond, Attempts: 1})
	if wire.CodeOf(err) != wire.Unavailable || !strings.Contains(err.Error(), "no byte for") {
		t.Errorf("a stalled server: %v", err)
	}
}

func TestFetchNotDowngraded(t *testing.T) {
	plain := httptest.NewServer(&flaky{body: []byte("x")})
	defer plain.Close()
	tls := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer tls.Close()
	err := Fetch(t.Context(), tls.URL, filepath.Join(t.TempDir(), "f"), FetchOptions{Client: tls.Client(), Attempts: 1})
	if err == nil || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("led from https to http: %v", err)
	}
}

func TestFetchKeepsSecrets(t *testing.T) {
	err := Fetch(t.Context(), "http://user:hunter2@127.0.0.1:1/f?X-Signature=hunter2", filepath.Join(t.TempDir(), "f"), FetchOptions{Attempts: 1})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "127.0.0.1:1/f") {
		t.Errorf("the error is %v", err)
	}
}

func TestFetchLocal(t *testing.T) {
	body := noise(300_000)
	src, dir := put(t, body), t.TempDir()
	for i, source := range []string{src, "file://" + src, "file://localhost" + src} {
		dst := filepath.Join(dir, "sub", fmt.Sprint(i))
		var done int64
		o := FetchOptions{SHA256: "sha256:" + strings.ToUpper(sum(body)), Progress: func(_ string, d, _ int64) { done = d }}
		if err := Fetch(t.Context(), source, dst, o); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(dst); !bytes.Equal(got, body) || done != int64(len(body)) {
			t.Errorf("%s: %d bytes, progress %d", source, len(got), done)
		}
	}
	if err := Fetch(t.Context(), src, src, FetchOptions{}); err != nil {
		t.Errorf("onto itself: %v", err)
	}
	for source, code := range map[string]wire.Code{
		src + "x": wire.NotFound, dir: wire.Invalid, "": wire.Invalid, "file://host/x": wire.Invalid,
		"ftp://x/y": wire.Invalid, "http:///x": wire.Invalid, "http://[": wire.Invalid,
	} {
		if err := Fetch(t.Context(), source, filepath.Join(dir, "no"), FetchOptions{}); wire.CodeOf(err) != code {
			t.Errorf("%q: %v, want %s", source, err, code)
		}
	}
	if err := Fetch(t.Context(), src, filepath.Join(dir, "no"), FetchOptions{SHA256: sum(nil)}); wire.CodeOf(err) != wire.Invalid {
		t.Errorf("wrong sum: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*no*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// smallDisk is a directory on a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("needs a tmpfs: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestFetchDiskFull: a full disk is told from a broken server, is not tried
// again, and isn't kept full by half a file.
func TestFetchDiskFull(t *testing.T) {
	dir := smallDisk(t)
	s := &flaky{body: noise(3 << 20), etag: `"a"`}
	srv := httptest.NewServer(s)
	defer srv.Close()
	for _, source := range []string{srv.URL, put(t, s.body)} {
		err := Fetch(t.Context(), source, filepath.Join(dir, "f"), FetchOptions{})
		if wire.CodeOf(err) != wire.Exhausted {
			t.Errorf("a full disk: %v", err)
		}
	}
	if s.requests != 1 {
		t.Errorf("%d requests", s.requests)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFetchTwice: two at once take turns and both get the file.
func TestFetchTwice(t *testing.T) {
	t.Parallel()
	s := http.FileServer(http.Dir(filepath.Dir(put(t, noise(1<<20)))))
	srv := httptest.NewServer(s)
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "f")
	var failed atomic.Int32
	done := make(chan error)
	for range 4 {
		go func() { done <- Fetch(t.Context(), srv.URL+"/file", path, FetchOptions{SHA256: sum(noise(1 << 20))}) }()
	}
	for range 4 {
		if err := <-done; err != nil {
			failed.Add(1)
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 7-9/10")
	f.Add("bytes 9-7/-1")
	f.Add("bytes */10")
	f.Fuzz(func(t *testing.T, s string) {
		start, total, ok := parseContentRange(s)
		if ok && (start < 0 || start >= total) {
			t.Fatalf("%q: from %d of %d", s, start, total)
		}
	})
}
