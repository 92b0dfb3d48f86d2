package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// handMade serves one image of which every byte is given.
type handMade struct {
	manifest, config string
	blobs            map[string][]byte
	mediaType        string
}

func (h handMade) wrap(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, id, _ := strings.Cut(r.URL.Path, "/blobs/")
		switch {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", h.mediaType)
			io.WriteString(w, h.manifest)
		case id == digestOf([]byte(h.config)):
			io.WriteString(w, h.config)
		case h.blobs[id] != nil:
			w.Write(h.blobs[id])
		case id != "":
			w.WriteHeader(http.StatusNotFound)
		}
	})
}

func descriptor(t types.MediaType, b []byte) v1.Descriptor {
	h, _ := v1.NewHash(digestOf(b))
	return v1.Descriptor{MediaType: t, Digest: h, Size: int64(len(b))}
}

// withLayers completes h: a manifest of layers, each the bytes it is said to
// be, and a config that says their contents are plain.
func (h handMade) withLayers(stored, plain [][]byte) handMade {
	h.mediaType = string(types.OCIManifestSchema1)
	h.blobs = map[string][]byte{}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	ids := []string{}
	for i, b := range stored {
		m.Layers = append(m.Layers, descriptor(types.OCILayer, b))
		h.blobs[digestOf(b)] = b
		ids = append(ids, fmt.Sprintf("%q", digestOf(plain[i])))
	}
	if h.config == "" {
		h.config = fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"diff_ids":[%s]}}`, runtime.GOARCH, strings.Join(ids, ","))
	}
	m.Config = descriptor(types.OCIConfigJSON, []byte(h.config))
	b, _ := json.Marshal(m)
	h.manifest = string(b)
	return h
}

func zip(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

func TestHostile(t *testing.T) {
	plain := plainTar(t, nil)
	config := func(s string) handMade { return handMade{config: s}.withLayers(nil, nil) }
	index := func(s string) handMade {
		return handMade{manifest: s, mediaType: string(types.OCIImageIndex)}
	}
	many := make([][]byte, maxLayers+1)
	for i := range many {
		many[i] = plain
	}
	one := handMade{}.withLayers([][]byte{plain}, [][]byte{plain})
	edit := func(old, new string) handMade {
		h := one
		h.manifest = strings.Replace(h.manifest, old, new, 1)
		return h
	}
	size := fmt.Sprintf(`"size":%d`, len(plain))
	for name, c := range map[string]struct {
		image handMade
		text  string
	}{
		"manifest bomb":     {index(`{"manifests":[],"x":"` + strings.Repeat("x", maxManifest) + `"}`), "allowed"},
		"no JSON":           {index("<html>"), "manifest"},
		"nothing in it":     {index(`{}`), "neither"},
		"schema 1":          {index(`{"fsLayers":[{"blobSum":"x"}]}`), "schema 1"},
		"index of itself":   {index(`{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","mediaType":"` + string(types.OCIImageIndex) + `"}]}`), ""},
		"bad digest":        {index(`{"manifests":[{"digest":"sha256:../../etc"}]}`), "manifest"},
		"helm chart":        {edit(string(types.OCIConfigJSON), "application/vnd.cncf.helm.config.v1+json"), "artifact"},
		"encrypted":         {edit(string(types.OCILayer), string(types.OCILayer)+"+encrypted"), "encrypted"},
		"no tar":            {edit(string(types.OCILayer), "application/wasm"), "wasm"},
		"negative size":     {edit(`"layers":[{"mediaType":"`+string(types.OCILayer)+`",`+size, `"layers":[{"size":-1`), "-1 bytes"},
		"enormous size":     {edit(`"layers":[{"mediaType":"`+string(types.OCILayer)+`",`+size, `"layers":[{"size":9000000000000000000`), "9000000000000000000"},
		"too many layers":   {handMade{}.withLayers(many, many), "512"},
		"config bomb":       {config(`{"x":"` + strings.Repeat("x", maxConfig) + `"}`), "allowed"},
		"config no JSON":    {config("no"), "config"},
		"config odd types":  {config(`{"config":{"Env":"A=1"}}`), "config"},
		"config odd ids":    {config(`{"rootfs":{"diff_ids":[1]}}`), "config"},
		"ids without layer": {config(`{"rootfs":{"diff_ids":["` + digestOf(nil) + `"]}}`), "1 layers, the manifest 0"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			_, err := Open(context.Background(), serve(t, c.image.wrap)+"/i", o)
			if name == "index of itself" { // the digest can't be right
				wantError(t, err, wire.Unavailable, "digest")
				return
			}
			wantError(t, err, wire.Invalid, c.text)
		})
	}
}

// What can only be found out when the layers are read.
func TestHostileLayers(t *testing.T) {
	plain := plainTar(t, nil)
	zeros := make([]byte, 8<<20)
	swapped := handMade{}.withLayers([][]byte{zip(plain)}, [][]byte{plain})
	for id := range swapped.blobs {
		swapped.blobs[id] = zip(append(plain, 0))
	}
	for name, c := range map[string]struct {
		image handMade
		code  wire.Code
		text  string
	}{
		"other content": {handMade{}.withLayers([][]byte{zip(plain)}, [][]byte{{}}), wire.Invalid, "the config says"},
		"other blob":    {swapped, wire.Unavailable, "registry"},
		"cut short":     {handMade{}.withLayers([][]byte{zip(plain)[:20]}, [][]byte{plain}), wire.Invalid, "layer 1 of 1"},
		"no tar":        {handMade{}.withLayers([][]byte{[]byte(strings.Repeat("garbage ", 200))}, [][]byte{plain}), wire.Invalid, "layer 1 of 1"},
		"gzip in gzip":  {handMade{}.withLayers([][]byte{zip(zip(plain))}, [][]byte{plain}), wire.Invalid, "layer 1 of 1"},
		"padding bomb":  {handMade{}.withLayers([][]byte{zip(append(plain, zeros...))}, [][]byte{append(plain, zeros...)}), wire.Exhausted, "limit"},
		"missing in it": {handMade{blobs: nil, manifest: ""}.withLayers([][]byte{plain}, [][]byte{plain}).forget(), wire.NotFound, "no such"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.MaxBytes = 1 << 20
			_, err := tryContents(open1(t, serve(t, c.image.wrap)+"/i", o))
			wantError(t, err, c.code, c.text)
		})
	}
}

func (h handMade) forget() handMade {
	h.blobs = nil
	return h
}

func TestConfigOddities(t *testing.T) {
	want := v1.Platform{OS: "linux", Architecture: "amd64"}
	c, err := parseConfig([]byte(`{"created":17,"history":"?","config":{"Entrypoint":"/bin/sh -c","Cmd":null,
		"ExposedPorts":{"80":7},"Volumes":null,"Healthcheck":[],"OnBuild":{},
		"Env":["A=1","BARE","","=x","N=\u0000","B=","C=d=e"]}}`), want)
	must(t, err)
	if d := cmp.Diff(Config{Entrypoint: []string{"/bin/sh -c"}, ExposedPorts: []string{"80"}, Env: []string{"A=1", "B=", "C=d=e"}}, c.Config.config()); d != "" {
		t.Error(d)
	}
	if _, err := parseConfig([]byte(`{"architecture":"arm64"}`), want); wire.CodeOf(err) != wire.NotFound {
		t.Error(err)
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"config":{"Entrypoint":"x"}}`, `{"config":{"Cmd":["a"],"Env":["A=1"]},"rootfs":{"diff_ids":["sha256:ab"]}}`, `[1]`, `{"config":{"Volumes":{"/a":{}}}}`,
	} {
		f.Add([]byte(s), []byte(s))
	}
	want := v1.Platform{OS: "linux", Architecture: "amd64"}
	f.Fuzz(func(t *testing.T, config, index []byte) {
		if c, err := parseConfig(config, want); err == nil {
			c.Config.config().Command([]string{"x"})
			if ids, err := c.layerIDs(len(c.RootFS.DiffIDs)); err == nil && len(ids) > maxLayers {
				t.Error("too many layers")
			}
		}
		if d, err := pick(index, "", want); err == nil && strings.Contains(blobPath(d.Digest), "..") {
			t.Errorf("blob path %q", blobPath(d.Digest))
		}
	})
}

func TestCommand(t *testing.T) {
	for _, c := range []struct{ entry, cmd, args, want string }{
		{"", "", "", ""}, {"", "c d", "", "c d"}, {"", "c d", "x", "x"},
		{"e f", "", "", "e f"}, {"e", "c", "", "e c"}, {"e", "c", "x y", "e x y"},
	} {
		cfg := Config{Entrypoint: strings.Fields(c.entry), Cmd: strings.Fields(c.cmd)}
		if got := strings.Join(cfg.Command(strings.Fields(c.args)), " "); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

// A full disk stops a pull with an error that says so, and leaves nothing.
func TestDiskFull(t *testing.T) {
	o := options(t)
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	defer syscall.Unmount(small, 0)
	big := bytes.Repeat([]byte("not to be compressed"), 10_000)
	host := serve(t, handMade{}.withLayers([][]byte{big}, [][]byte{big}).wrap)
	img := open1(t, host+"/i", o)
	for _, l := range img.content.(*layered).layers {
		l.scratch = small
	}
	_, err := tryContents(img)
	wantError(t, err, wire.Exhausted, small, "df -h")
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error("the cause is lost:", err)
	}
	if left, _ := os.ReadDir(small); len(left) > 0 {
		t.Error("left:", left)
	}
	o.Scratch = filepath.Join(small, "none")
	o.Stdin = bytes.NewReader(big)
	_, err = Open(context.Background(), "oci-archive:-", o)
	wantError(t, err, wire.Unavailable, "none")
}

// FuzzArchive gives bytes of a stranger's to all that read archives.
func FuzzArchive(f *testing.F) {
	f.Add(plainTar(f, []tar.Header{
		{Name: "manifest.json", PAXRecords: map[string]string{"TEST.content": `[{"Config":"c","Layers":["../l","l"]}]`}},
		{Name: "./c", PAXRecords: map[string]string{"TEST.content": `{"rootfs":{"diff_ids":["` + digestOf(nil) + `","` + digestOf(nil) + `"]}}`}},
		{Name: "/l"}, {Typeflag: tar.TypeSymlink, Name: "m", Linkname: "m"},
	}))
	f.Add(plainTar(f, []tar.Header{{Name: "index.json", PAXRecords: map[string]string{"TEST.content": `{"manifests":[{}]}`}}}))
	f.Add(zip(plainTar(f, nil)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		o := Options{Scratch: dir, MaxBytes: 1 << 20, MaxEntries: 100, Platform: "linux/amd64"}
		for _, ref := range []string{"docker-archive:-", "oci-archive:-"} {
			o.Stdin = bytes.NewReader(b)
			img, err := Open(context.Background(), ref, o)
			if err != nil {
				if wire.CodeOf(err) == wire.Internal {
					t.Errorf("%v has no class", err)
				}
				continue
			}
			tryContents(img)
			img.Close()
		}
	})
}
