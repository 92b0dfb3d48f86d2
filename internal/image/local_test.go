package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// makeLayout writes images, under their names, as an OCI layout.
func makeLayout(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	must(t, err)
	for n, img := range images {
		must(t, p.AppendImage(img, layout.WithAnnotations(map[string]string{refNames[0]: n})))
	}
	return dir
}

// tarDir makes an archive of a directory, as tar -C dir -cf FILE . does.
func tarDir(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	_, err = packDir(context.Background(), dir, f, Limits{})
	must(t, err)
	return path
}

func gzipped(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	must(t, w.Close())
	must(t, os.WriteFile(path+".gz", z.Bytes(), 0o600))
	return path + ".gz"
}

func TestLayouts(t *testing.T) {
	o := options(t)
	one, two := makeImage(t, threeLayers...), makeImage(t, map[string]string{"x": "y"})
	single := makeLayout(t, map[string]v1.Image{"v1": one})
	many := makeLayout(t, map[string]v1.Image{"v1": one, "v2": two})
	archive := tarDir(t, many)
	for ref, want := range map[string]v1.Image{
		"oci:" + single: one, "oci:" + single + ":v1": one,
		"oci:" + many + ":v2": two, "oci:" + many + ":" + digest(t, two): two,
		"oci-archive:" + archive + ":v1": one, "oci-archive:" + gzipped(t, archive) + ":v2": two,
	} {
		img := open1(t, ref, o)
		if img.Digest != digest(t, want) || !strings.HasPrefix(ref, img.Source+":") {
			t.Errorf("%s: got %s from %s", ref, img.Digest, img.Source)
		}
		if d := cmp.Diff(wantConfig, img.Config); d != "" {
			t.Error(ref, d)
		}
		files := map[string]string{"x": "y"}
		if want == one {
			files = threeLayersFlat
		}
		if d := cmp.Diff(files, contents(t, img)); d != "" {
			t.Error(ref, d)
		}
	}

	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	o.Stdin = f
	if img := open1(t, "oci-archive:-:v2", o); img.Digest != digest(t, two) || img.Ref != "oci-archive:-:v2" {
		t.Errorf("from standard input: %+v", img)
	}
	o.Stdin = nil
	for ref, want := range map[string]struct {
		code wire.Code
		text string
	}{
		"oci:" + many:                 {wire.Invalid, "v2"},
		"oci:" + many + ":v3":         {wire.NotFound, "v1"},
		"oci:" + t.TempDir():          {wire.Invalid, "dir:DIR"},
		"oci:" + many + "/none":       {wire.NotFound, "none"},
		"oci-archive:" + many:         {wire.Invalid, "oci:" + many},
		"oci-archive:-":               {wire.Invalid, "standard input"},
		"docker-archive:" + archive:   {wire.Invalid, "oci-archive:"},
		"oci:" + archive:              {wire.Invalid, archive},
		"oci-archive:" + os.Args[0]:   {wire.Invalid, "archive"},
		"docker-archive:/dev/null":    {wire.Invalid, "manifest.json"},
		"oci-archive:/dev/null":       {wire.Invalid, "index.json"},
		"docker-archive:" + single:    {wire.Invalid, "oci:" + single},
		"dir:" + archive:              {wire.Invalid, "oci-archive:"},
		"dir:" + many + "/nowhere":    {wire.NotFound, "nowhere"},
		"docker-archive:/no/such/one": {wire.NotFound, "/no/such/one"},
	} {
		_, err := Open(context.Background(), ref, o)
		if err == nil {
			t.Errorf("%s: no error", ref)
			continue
		}
		wantError(t, err, want.code, want.text)
	}
}

// A layout's blob that is a link out of it is not followed.
func TestLayoutLinkOut(t *testing.T) {
	o := options(t)
	img := makeImage(t, threeLayers...)
	dir := makeLayout(t, map[string]v1.Image{"v1": img})
	ls, err := img.Layers()
	must(t, err)
	h, err := ls[0].Digest()
	must(t, err)
	blob := filepath.Join(dir, blobPath(h))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Rename(blob, outside))
	must(t, os.Symlink(outside, blob))
	_, err = tryContents(open1(t, "oci:"+dir, o))
	wantError(t, err, wire.Invalid, "escapes")
}

func TestDockerArchives(t *testing.T) {
	o := options(t)
	one, two := makeImage(t, threeLayers...), makeImage(t, map[string]string{"x": "y"})
	tag := func(s string) name.Tag {
		n, err := name.NewTag(s)
		must(t, err)
		return n
	}
	single, many := filepath.Join(t.TempDir(), "one.tar"), filepath.Join(t.TempDir(), "two.tar")
	must(t, tarball.WriteToFile(single, tag("thing:1"), one))
	must(t, tarball.MultiWriteToFile(many, map[name.Tag]v1.Image{tag("thing:1"): one, tag("a/b:2"): two}))
	f, err := os.Open(single)
	must(t, err)
	defer f.Close()
	o.Stdin = f
	id := func(img v1.Image) string {
		h, err := img.ConfigName()
		must(t, err)
		return h.String()
	}
	for ref, want := range map[string]v1.Image{
		"docker-archive:" + single: one, "docker-archive:" + single + ":thing:1": one,
		"docker-archive:" + many + ":2": two, "docker-archive:" + many + ":docker.io/a/b:2": two,
		"docker-archive:" + gzipped(t, single): one, "docker-archive:-": one,
	} {
		img := open1(t, ref, o)
		if img.Digest != id(want) || img.Source != "docker-archive" {
			t.Errorf("%s: got %+v", ref, img)
		}
		if d := cmp.Diff(wantConfig, img.Config); d != "" {
			t.Error(ref, d)
		}
		files := map[string]string{"x": "y"}
		if want == one {
			files = threeLayersFlat
		}
		if d := cmp.Diff(files, contents(t, img)); d != "" {
			t.Error(ref, d)
		}
	}
	_, err = Open(context.Background(), "docker-archive:"+many, o)
	wantError(t, err, wire.Invalid, "thing:1", "docker-archive:FILE:")
	_, err = Open(context.Background(), "docker-archive:"+many+":none", o)
	wantError(t, err, wire.NotFound, "thing:1")
}

// A silent pipe on standard input doesn't outlast its context.
func TestStdinCancelled(t *testing.T) {
	o := options(t)
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	defer r.Close()
	o.Stdin = r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := Open(ctx, "docker-archive:-", o)
		done <- err
	}()
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}

func TestDir(t *testing.T) {
	o := options(t)
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "sub/empty"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o640))
	must(t, os.Chmod(filepath.Join(dir, "file"), 0o640|os.ModeSetuid))
	must(t, os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "sub/hard")))
	must(t, os.Symlink("/etc", filepath.Join(dir, "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	long := strings.Repeat("n", 255)
	must(t, os.WriteFile(filepath.Join(dir, long), nil, 0o600))
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	must(t, err)
	defer l.Close()
	wantXattr := unix.Setxattr(filepath.Join(dir, "file"), "user.x", []byte("v\x00w"), 0) == nil

	img := open1(t, "dir:"+dir, o)
	rc, err := img.Tar(context.Background())
	must(t, err)
	defer rc.Close()
	got := map[string]string{}
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		got[h.Name] = fmt.Sprintf("%c %s%d", h.Typeflag, h.Linkname, h.Size)
		if h.Name == "file" {
			if h.Mode != 0o4640 || h.Uid != os.Getuid() || wantXattr && h.PAXRecords["SCHILY.xattr.user.x"] != "v\x00w" {
				t.Errorf("file: %+v", h)
			}
			st, err := os.Stat(filepath.Join(dir, "file"))
			must(t, err)
			if !h.ModTime.Equal(st.ModTime()) {
				t.Errorf("time %v, want %v", h.ModTime, st.ModTime())
			}
		}
	}
	want := map[string]string{
		"./": "5 0", "file": "0 4", "fifo": "6 0", "link": "2 /etc0", long: "0 0",
		"sub/": "5 0", "sub/empty/": "5 0", "sub/hard": "1 file0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if again := open1(t, "dir:"+dir, o); again.Digest != img.Digest || img.Digest == "" {
		t.Errorf("digests %s, %s of one directory", img.Digest, again.Digest)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("other"), 0o640))
	_, err = tryContents(img)
	wantError(t, err, wire.Conflict, "changed")
	o.MaxEntries = 3
	_, err = Open(context.Background(), "dir:"+dir, o)
	wantError(t, err, wire.Exhausted, "3 entries")
	o.MaxEntries, o.MaxBytes = 0, 3
	_, err = Open(context.Background(), "dir:"+dir, o)
	wantError(t, err, wire.Exhausted, "3 bytes")
}

// What skopeo writes as dir:, and a layout, are images, but not as we mean dir:.
func TestDirIsAnImage(t *testing.T) {
	o := options(t)
	skopeo := t.TempDir()
	must(t, os.WriteFile(filepath.Join(skopeo, "manifest.json"), []byte("{}"), 0o644))
	must(t, os.WriteFile(filepath.Join(skopeo, "version"), []byte("Directory Transport Version: 1.1\n"), 0o644))
	_, err := Open(context.Background(), "dir:"+skopeo, o)
	wantError(t, err, wire.Invalid, "skopeo copy dir:"+skopeo+" oci-archive:", "bandsox run oci-archive:")
	_, err = Open(context.Background(), skopeo, o)
	wantError(t, err, wire.Invalid, "skopeo copy dir:"+skopeo)

	oci := makeLayout(t, map[string]v1.Image{"v1": makeImage(t, threeLayers...)})
	_, err = Open(context.Background(), "dir:"+oci, o)
	wantError(t, err, wire.Invalid, "oci:"+oci)

	must(t, os.WriteFile(filepath.Join(skopeo, "version"), []byte("7\n"), 0o644)) // files of these names, no more
	must(t, open1(t, "dir:"+skopeo, o).Close())
}

func TestDirUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: root may read everything")
	}
	o := options(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "secret"), nil, 0))
	_, err := Open(context.Background(), "dir:"+dir, o)
	wantError(t, err, wire.Denied, "secret", "root")
}

// fakeDocker answers the two questions that are asked of a docker daemon.
func fakeDocker(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", sock)
	must(t, err)
	byID := map[string]v1.Image{}
	for n, img := range images {
		h, err := img.ConfigName()
		must(t, err)
		byID[n], byID[h.String()] = img, img
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest := strings.TrimPrefix(r.URL.Path, "/images/")
		at := strings.LastIndexByte(rest, '/')
		img := byID[rest[:at]]
		if img == nil {
			http.Error(w, `{"message":"No such image: `+rest[:at]+`"}`, http.StatusNotFound)
			return
		}
		if rest[at+1:] == "get" {
			tag, _ := name.NewTag("x:y")
			tarball.Write(tag, img, w)
			return
		}
		id, _ := img.ConfigName()
		cf, _ := img.ConfigFile()
		json.NewEncoder(w).Encode(map[string]any{
			"Id": id.String(), "Os": cf.OS, "Architecture": cf.Architecture, "Config": cf.Config, "Size": 12345,
		})
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return sock
}

func TestDocker(t *testing.T) {
	o := options(t)
	img := makeImage(t, threeLayers...)
	host := serve(t, nil)
	o.Docker = fakeDocker(t, map[string]v1.Image{
		"docker.io/library/thing:1": img, host + "/both:latest": img, host + "/arch:latest": foreign(t),
	})
	id, err := img.ConfigName()
	must(t, err)
	push(t, host+"/both", makeImage(t, map[string]string{"from": "registry"}))
	push(t, host+"/arch", img)
	push(t, host+"/far", img)

	for _, ref := range []string{"docker-daemon:thing:1", "thing:1", "docker-daemon:" + id.String()} {
		got := open1(t, ref, o)
		if got.Digest != id.String() || got.Source != "docker" || got.Size != 12345 {
			t.Errorf("%s: %+v", ref, got)
		}
		if d := cmp.Diff(wantConfig, got.Config); d != "" {
			t.Error(ref, d)
		}
		for range 2 {
			if d := cmp.Diff(threeLayersFlat, contents(t, got)); d != "" {
				t.Error(ref, d)
			}
		}
	}
	for ref, source := range map[string]string{"/both": "docker", "/arch": "registry", "/far": "registry"} {
		if got := open1(t, host+ref, o); got.Source != source {
			t.Errorf("%s came from %s, want %s", ref, got.Source, source)
		}
	}
	always := o
	always.Pull = PullAlways
	if got := open1(t, host+"/both", always); got.Source != "registry" {
		t.Errorf("pulled from %s", got.Source)
	}
	never := o
	never.Pull = PullNever
	if got := open1(t, host+"/both", never); got.Source != "docker" {
		t.Errorf("found in %s", got.Source)
	}
	_, err = Open(context.Background(), host+"/far", never)
	wantError(t, err, wire.NotFound, "not to be pulled")
	_, err = Open(context.Background(), "docker-daemon:none", o)
	wantError(t, err, wire.NotFound, "docker pull", "none")

	o.Docker = ""
	_, err = Open(context.Background(), "docker-daemon:none", o)
	wantError(t, err, wire.Unavailable, "none.sock", "docker info")
	if got := open1(t, host+"/far", o); got.Source != "registry" {
		t.Errorf("without a daemon: from %s", got.Source)
	}
	o.Docker = "ssh://far"
	_, err = Open(context.Background(), "docker-daemon:none", o)
	wantError(t, err, wire.Unavailable, "ssh://far")
}

// A daemon that was configured and is broken is named when nobody else has the
// image; one that only lacks the image is not.
func TestDockerBroken(t *testing.T) {
	o := options(t)
	const far = "127.0.0.1:1/x" // nobody's port
	for host, says := range map[string]string{
		os.Getenv("DOCKER_HOST"): "none.sock", "bogus": "only unix://", "tcp://127.0.0.1:1": "refused", "https://127.0.0.1:1": "certificates",
	} {
		t.Setenv("DOCKER_HOST", host)
		_, err := Open(context.Background(), far, o)
		wantError(t, err, wire.Unavailable, "registry 127.0.0.1:1", "; DOCKER_HOST: docker daemon at \""+host, says, "bandsox/base")
		never := o
		never.Pull = PullNever
		_, err = Open(context.Background(), far, never)
		wantError(t, err, wire.NotFound, "not to be pulled; DOCKER_HOST: ", says)
	}
	o.Docker = fakeDocker(t, nil)
	if _, err := Open(context.Background(), far, o); err == nil || strings.Contains(err.Error(), "docker daemon") {
		t.Errorf("with a daemon that works: %v", err)
	}
	o.Docker = "ssh://far"
	_, err := Open(context.Background(), far, o)
	wantError(t, err, wire.Unavailable, `; docker daemon at "ssh://far"`)
	t.Setenv("DOCKER_HOST", "")
	o.Docker = ""
	if _, err := Open(context.Background(), far, o); err == nil || strings.Contains(err.Error(), "docker daemon") {
		t.Errorf("with none configured: %v", err)
	}
}

// foreign is an image for another processor.
func foreign(t *testing.T) v1.Image {
	t.Helper()
	cf, err := makeImage(t).ConfigFile()
	must(t, err)
	cf = cf.DeepCopy()
	cf.Architecture = "other-than-" + runtime.GOARCH
	img, err := mutate.ConfigFile(makeImage(t), cf)
	must(t, err)
	return img
}
