package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	downloadPause = 10 * time.Millisecond
	goleak.VerifyTestMain(m)
}

// options are for a test: nothing of this machine's own configuration is
// read, and what is left in the scratch directory at the end is an error.
func options(t *testing.T) Options {
	t.Helper()
	for _, env := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"} {
		t.Setenv(env, t.TempDir())
	}
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	scratch := t.TempDir()
	t.Cleanup(func() {
		if left, _ := os.ReadDir(scratch); len(left) > 0 {
			t.Errorf("left in the scratch directory: %v", left)
		}
	})
	return Options{Scratch: scratch}
}

// makeImage makes an image of one layer for each map of names to contents,
// compressed in turn in all the ways there are.
func makeImage(t testing.TB, layers ...map[string]string) v1.Image {
	t.Helper()
	return makeImageOf(t, []compression.Compression{compression.GZip, compression.ZStd, compression.None}, layers...)
}

func makeImageOf(t testing.TB, ways []compression.Compression, layers ...map[string]string) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	kinds := map[compression.Compression]types.MediaType{
		compression.GZip: types.OCILayer, compression.ZStd: types.OCILayerZStd, compression.None: types.OCIUncompressedLayer,
	}
	for i, files := range layers {
		var entries []tar.Header
		for n, content := range files {
			entries = append(entries, tar.Header{Name: n, Mode: 0o644, PAXRecords: map[string]string{"TEST.content": content}})
		}
		b := plainTar(t, entries)
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
			tarball.WithCompression(ways[i%len(ways)]), tarball.WithMediaType(kinds[ways[i%len(ways)]]))
		must(t, err)
		img, err = mutate.AppendLayers(img, l)
		must(t, err)
	}
	cf, err := img.ConfigFile()
	must(t, err)
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", runtime.GOARCH
	cf.Config = v1.Config{
		Env: []string{"A=1"}, WorkingDir: "/w", User: "u:g", Entrypoint: []string{"/e"}, Cmd: []string{"c", "d"},
		Labels: map[string]string{"l": "v"}, StopSignal: "SIGINT",
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
	}
	img, err = mutate.ConfigFile(img, cf)
	must(t, err)
	return mutate.MediaType(img, types.OCIManifestSchema1)
}

func plainTar(t testing.TB, entries []tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range entries {
		content := h.PAXRecords["TEST.content"]
		h.PAXRecords, h.Size = nil, int64(len(content))
		must(t, tw.WriteHeader(&h))
		_, err := io.WriteString(tw, content)
		must(t, err)
	}
	must(t, tw.Close())
	return b.Bytes()
}

var wantConfig = Config{
	Env: []string{"A=1"}, WorkingDir: "/w", User: "u:g", Entrypoint: []string{"/e"}, Cmd: []string{"c", "d"},
	Labels: map[string]string{"l": "v"}, StopSignal: "SIGINT",
	ExposedPorts: []string{"443/tcp", "80/tcp"}, Volumes: []string{"/data"},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contents reads the regular files of an image.
func contents(t testing.TB, img *Image) map[string]string {
	t.Helper()
	got, err := tryContents(img)
	must(t, err)
	return got
}

func tryContents(img *Image) (map[string]string, error) {
	rc, err := img.Tar(context.Background())
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	got := map[string]string{}
	tr := tar.NewReader(rc)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, rc)
			return got, err
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			b, err := io.ReadAll(tr)
			if err != nil {
				return nil, err
			}
			got[h.Name] = string(b)
		}
	}
}

// wantError checks an error's class, and that it says what it should.
func wantError(t testing.TB, err error, code wire.Code, texts ...string) {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want one of code %s", err, code)
	}
	if e.Code != code {
		t.Errorf("error of code %s, want %s: %v", e.Code, code, err)
	}
	for _, s := range texts {
		if !strings.Contains(e.Message+"\nhint: "+e.Hint, s) {
			t.Errorf("error %q with hint %q says nothing of %q", e.Message, e.Hint, s)
		}
	}
}

// serve runs a registry behind wrap, and returns its host.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func push(t *testing.T, ref string, img v1.Image, o ...remote.Option) {
	t.Helper()
	n, err := name.ParseReference(ref)
	must(t, err)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	must(t, remote.Write(n, img, append(o, remote.WithTransport(tr))...))
}

func open1(t *testing.T, ref string, o Options) *Image {
	t.Helper()
	img, err := Open(context.Background(), ref, o)
	must(t, err)
	t.Cleanup(func() { img.Close() })
	return img
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.Digest()
	must(t, err)
	return h.String()
}

var threeLayers = []map[string]string{
	{"a": "one", "b": "two", "dir/c": "three"},
	{".wh.b": "", "a": "four"},
	{"d": strings.Repeat("long ", 100_000)},
}

var threeLayersFlat = map[string]string{"a": "four", "dir/c": "three", "d": strings.Repeat("long ", 100_000)}

func TestPull(t *testing.T) {
	o := options(t)
	var last atomic.Int64
	o.Progress = func(_ string, done, total int64) {
		if done > total {
			t.Errorf("progress %d of %d", done, total)
		}
		last.Store(done)
	}
	host := serve(t, nil)
	want := makeImage(t, threeLayers...)
	push(t, host+"/o/img:v1", want)
	img := open1(t, host+"/o/img:v1", o)
	if img.Digest != digest(t, want) || img.Source != "registry" || img.Ref != host+"/o/img:v1" {
		t.Errorf("got %+v", img)
	}
	if d := cmp.Diff(wantConfig, img.Config); d != "" {
		t.Error(d)
	}
	for range 2 { // the second time from what was downloaded
		if d := cmp.Diff(threeLayersFlat, contents(t, img)); d != "" {
			t.Error(d)
		}
	}
	if last.Load() != img.Size {
		t.Errorf("progress ended at %d of %d bytes", last.Load(), img.Size)
	}
	again := open1(t, host+"/o/img@"+img.Digest, o)
	if again.Digest != img.Digest {
		t.Error("another digest by digest")
	}
	must(t, img.Close())
}

func TestTarStoppedEarly(t *testing.T) {
	o := options(t)
	host := serve(t, nil)
	push(t, host+"/i", makeImage(t, threeLayers...))
	img := open1(t, host+"/i", o)
	rc, err := img.Tar(context.Background())
	must(t, err)
	_, err = io.ReadFull(rc, make([]byte, 100))
	must(t, err)
	must(t, rc.Close())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	rc, err = img.Tar(ctx)
	must(t, err)
	if _, err := io.Copy(io.Discard, rc); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a cancelled stream", err)
	}
	must(t, rc.Close())
}

func TestMissing(t *testing.T) {
	o := options(t)
	host := serve(t, nil)
	_, err := Open(context.Background(), host+"/no/such:v1", o)
	wantError(t, err, wire.NotFound, host)
	// Port 1 is nobody's: refused at once.
	_, err = Open(context.Background(), "127.0.0.1:1/x", o)
	wantError(t, err, wire.Unavailable, "127.0.0.1:1", "bandsox/base", "docker-archive:")
	o.Pull = PullNever
	_, err = Open(context.Background(), host+"/no/such:v1", o)
	wantError(t, err, wire.NotFound, "image pull")
}

func TestAuth(t *testing.T) {
	o := options(t)
	host := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, _ := r.BasicAuth(); u != "me" || p != "secret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	_, err := Open(context.Background(), host+"/i", o)
	wantError(t, err, wire.Unauthorized, "docker login "+host)

	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("me:secret")))
	must(t, os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(config), 0o600))
	push(t, host+"/i", makeImage(t, threeLayers...), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, host+"/i", o))); d != "" {
		t.Error(d)
	}
}

func TestMirrors(t *testing.T) {
	o := options(t)
	mirror, origin := serve(t, nil), serve(t, nil)
	want := makeImage(t, threeLayers...)
	push(t, mirror+"/hub/library/thing:1", want)
	push(t, origin+"/only/here:1", want)

	// The registry can't be reached, its mirror can.
	o.Mirrors = map[string][]string{
		"docker.io":   {"127.0.0.1:1", "http://" + mirror + "/hub/"},
		"127.0.0.1:1": {mirror},
		origin:        {mirror, "127.0.0.1:1"},
	}
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, "thing:1", o))); d != "" {
		t.Error(d)
	}
	// The mirrors don't have it, the registry does.
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, origin+"/only/here:1", o))); d != "" {
		t.Error(d)
	}
	// None has it: the registry's own error counts, the mirror's is told too.
	_, err := Open(context.Background(), "127.0.0.1:1/no:1", o)
	wantError(t, err, wire.Unavailable, "127.0.0.1:1", "mirror "+mirror)
	o.Mirrors = map[string][]string{"docker.io": {"ftp://x"}}
	_, err = Open(context.Background(), "thing:1", o)
	wantError(t, err, wire.Invalid, "ftp://x")
}

// A mirror that dies in the middle is left for the registry.
func TestMirrorDies(t *testing.T) {
	o := options(t)
	want := makeImage(t, threeLayers...)
	mirror, origin := serve(t, dying(1<<30)), serve(t, nil)
	push(t, mirror+"/i", want)
	push(t, origin+"/i", want)
	o.Mirrors = map[string][]string{origin: {mirror}}
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, origin+"/i", o))); d != "" {
		t.Error(d)
	}
}

func TestPrivateCA(t *testing.T) {
	o := options(t)
	s := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "https://")
	n, err := name.ParseReference(host + "/i")
	must(t, err)
	must(t, remote.Write(n, makeImage(t, threeLayers...), remote.WithTransport(s.Client().Transport)))

	_, err = Open(context.Background(), host+"/i", o)
	wantError(t, err, wire.Unavailable, "certificate", "CA file")

	o.CAFiles = []string{filepath.Join(t.TempDir(), "ca.pem")}
	_, err = Open(context.Background(), host+"/i", o)
	wantError(t, err, wire.NotFound, "ca.pem")
	must(t, os.WriteFile(o.CAFiles[0], []byte("no certificate"), 0o600))
	_, err = Open(context.Background(), host+"/i", o)
	wantError(t, err, wire.Invalid, "ca.pem")
	pemBytes := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	must(t, os.WriteFile(o.CAFiles[0], pemBytes, 0o600))
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, host+"/i", o))); d != "" {
		t.Error(d)
	}
	o.CAFiles, o.Insecure = nil, []string{host}
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, host+"/i", o))); d != "" {
		t.Error(d)
	}
}

// dying serves only half of a layer, the first n times.
func dying(n int64) func(http.Handler) http.Handler {
	var left atomic.Int64
	left.Store(n)
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || left.Add(-1) < 0 {
				h.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if strings.HasPrefix(rec.Body.String(), "{") { // the config
				left.Add(1)
				w.Write(rec.Body.Bytes())
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
			w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	}
}

func TestRegistryDies(t *testing.T) {
	t.Run("once", func(t *testing.T) {
		o := options(t)
		host := serve(t, dying(1))
		push(t, host+"/i", makeImage(t, threeLayers...))
		if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, host+"/i", o))); d != "" {
			t.Error(d)
		}
	})
	t.Run("for long", func(t *testing.T) {
		o := options(t)
		host := serve(t, dying(downloadTries))
		push(t, host+"/i", makeImage(t, threeLayers[0]))
		img := open1(t, host+"/i", o)
		_, err := tryContents(img)
		wantError(t, err, wire.Unavailable, "registry "+host+" broke off in the middle", "try again", "bandsox/base")
		if d := cmp.Diff(threeLayers[0], contents(t, img)); d != "" {
			t.Error("second try:", d)
		}
	})
}

func TestRegistryStalls(t *testing.T) {
	o := options(t)
	o.IdleTimeout = 300 * time.Millisecond
	for _, what := range []string{"/manifests/", "/blobs/"} {
		host := serve(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, what) {
					h.ServeHTTP(w, r)
					return
				}
				w.Write([]byte("{"))
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
		})
		push(t, host+"/i", makeImage(t, threeLayers...))
		_, err := Open(context.Background(), host+"/i", o)
		wantError(t, err, wire.Unavailable, host, "sent nothing for 300ms")
	}
}

func TestPlatforms(t *testing.T) {
	o := options(t)
	host := serve(t, nil)
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	want := map[string]string{}
	for _, p := range []v1.Platform{
		{OS: "unknown", Architecture: "unknown"},
		{OS: "linux", Architecture: "arm", Variant: "v6"}, {OS: "linux", Architecture: "arm", Variant: "v7"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "s390x"},
		{OS: "windows", Architecture: "amd64"},
	} {
		img := makeImage(t, map[string]string{"platform": p.String()})
		cf, err := img.ConfigFile()
		must(t, err)
		cf = cf.DeepCopy()
		cf.OS, cf.Architecture, cf.Variant = p.OS, p.Architecture, p.Variant
		img, err = mutate.ConfigFile(img, cf)
		must(t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
		want[p.String()] = digest(t, img)
		if p.Architecture == "s390x" {
			push(t, host+"/single", img)
		}
	}
	n, err := name.ParseReference(host + "/many")
	must(t, err)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	must(t, remote.WriteIndex(n, index, remote.WithTransport(tr)))

	for ask, got := range map[string]string{
		"linux/arm64": "linux/arm64/v8", "linux/arm/v7": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/s390x": "linux/s390x",
	} {
		o.Platform = ask
		if img := open1(t, host+"/many", o); img.Digest != want[got] {
			t.Errorf("asked for %s: got %s", ask, img.Digest)
		}
	}
	o.Platform = "linux/riscv64"
	_, err = Open(context.Background(), host+"/many", o)
	wantError(t, err, wire.NotFound, "linux/riscv64", "linux/arm64/v8")
	_, err = Open(context.Background(), host+"/single", o)
	wantError(t, err, wire.NotFound, "linux/riscv64", "linux/s390x")
	o.Platform = "linux"
	_, err = Open(context.Background(), host+"/many", o)
	wantError(t, err, wire.Invalid, "linux/amd64")
}
