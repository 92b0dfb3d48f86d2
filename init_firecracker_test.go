package bandsox

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/bandsox/bandsox/internal/vm/firecracker"
)

// release is an archive laid out like Firecracker's.
func release(t *testing.T, version, words string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	dir := fmt.Sprintf("release-v%s-%s/", version, firecrackerArch)
	for _, name := range []string{"firecracker-v%s-%s", "firecracker-v%s-%s.debug", "jailer-v%s-%s", "SHA256SUMS"} {
		if name != "SHA256SUMS" {
			name = fmt.Sprintf(name, version, firecrackerArch)
		}
		text := "#!/bin/sh\necho Firecracker v" + version + "\n# " + words + "\n"
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestInitFirecracker installs from a server and from a directory that are laid
// out like the project's releases.
func TestInitFirecracker(t *testing.T) {
	if firecrackerArch == "" {
		t.Skip("needs an architecture that Firecracker runs on")
	}
	releases, storage := t.TempDir(), t.TempDir()
	name := fmt.Sprintf("firecracker-v%s-%s.tgz", FirecrackerVersion, firecrackerArch)
	put := func(version, words string, sum bool) (archive, hash string) {
		t.Helper()
		b := release(t, version, words)
		archive, hash = filepath.Join(releases, "v"+version, fmt.Sprintf("firecracker-v%s-%s.tgz", version, firecrackerArch)), fmt.Sprintf("%x", sha256.Sum256(b))
		if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(archive + ".sha256.txt")
		if sum {
			if err := os.WriteFile(archive+".sha256.txt", []byte(hash+"  "+name+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(archive, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return archive, hash
	}
	_, hash := put(FirecrackerVersion, "first", true)
	asked := 0
	files := http.FileServer(http.Dir(releases))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; files.ServeHTTP(w, r) }))
	defer srv.Close()

	ctx := t.Context()
	o := InitOptions{Storage: storage, Firecracker: srv.URL, FirecrackerSHA256: "sha256:" + hash}
	first, err := InitFirecracker(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Version != FirecrackerVersion || first.Source != srv.URL+"/v"+FirecrackerVersion+"/"+name {
		t.Errorf("%+v", first)
	}
	bin := filepath.Join(storage, "bin")
	versionIs := func(want string) {
		t.Helper()
		t.Setenv("BANDSOX_FIRECRACKER", "")
		t.Setenv("BANDSOX_JAILER", "")
		if v, err := firecracker.New(firecracker.Options{Bin: bin}).Version(ctx); err != nil || v != want {
			t.Errorf("the driver finds version %q, %v; want %s", v, err, want)
		}
	}
	versionIs(FirecrackerVersion)
	was := asked
	if again, err := InitFirecracker(ctx, o); err != nil || again != first || asked != was {
		t.Errorf("again: %+v, %v, after %d requests", again, err, asked-was)
	}

	// Another one of the same version: the first stays, for machines that run.
	archive, hash := put(FirecrackerVersion, "second", true)
	o.FirecrackerSHA256, o.Force = "", true
	second, err := InitFirecracker(ctx, o)
	if err != nil || second.Path == first.Path {
		t.Errorf("%+v, %v", second, err)
	}
	for _, path := range []string{first.Path, first.Jailer, second.Path, second.Jailer} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v", path, err)
		}
	}

	// What is not what it says, or says nothing of what it is.
	refused := func(what string, o InitOptions) {
		t.Helper()
		o.Storage, o.Force = storage, true
		if f, err := InitFirecracker(ctx, o); err == nil {
			t.Errorf("%s: installed %+v", what, f)
		}
	}
	refused("another hash", InitOptions{Firecracker: srv.URL, FirecrackerSHA256: fmt.Sprintf("%064d", 1)})
	refused("no hash", InitOptions{Firecracker: srv.URL, FirecrackerSHA256: "x"})
	refused("not there", InitOptions{Firecracker: srv.URL + "/none"})
	if err := os.WriteFile(archive+".sha256.txt", []byte(fmt.Sprintf("%064d\n", 2)), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("not what the release says", InitOptions{Firecracker: srv.URL})
	if err := os.Remove(archive + ".sha256.txt"); err != nil {
		t.Fatal(err)
	}
	refused("a server without a checksum", InitOptions{Firecracker: srv.URL})
	if _, err := InitFirecracker(ctx, InitOptions{Storage: storage, Firecracker: srv.URL, FirecrackerSHA256: hash, Force: true}); err != nil {
		t.Errorf("with a hash of one's own: %v", err)
	}
	versionIs(FirecrackerVersion)

	// Paths and file URLs, of an archive and of a directory.
	other, _ := put("1.99.0", "third", false)
	for _, from := range []string{other, "file://" + other} {
		if f, err := InitFirecracker(ctx, InitOptions{Storage: storage, Firecracker: from}); err != nil || f.Version != "1.99.0" {
			t.Errorf("%s: %+v, %v", from, f, err)
		}
		versionIs("1.99.0")
	}
	put(FirecrackerVersion, "fourth", true)
	if f, err := InitFirecracker(ctx, InitOptions{Storage: storage, Firecracker: "file://" + releases}); err != nil || f.Version != FirecrackerVersion {
		t.Errorf("%+v, %v", f, err)
	}
	garbage := filepath.Join(releases, "garbage.tgz")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("garbage", InitOptions{Firecracker: garbage})
	left, _ := filepath.Glob(filepath.Join(bin, ".*"))
	if len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := InitFirecracker(cancelled, InitOptions{Storage: storage, Firecracker: srv.URL, Force: true}); err == nil {
		t.Error("installed for nobody")
	}
}
