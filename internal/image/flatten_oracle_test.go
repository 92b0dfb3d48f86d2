package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestFlattenAsUmoci has umoci unpack the same stacks of layers.
func TestFlattenAsUmoci(t *testing.T) {
	for _, c := range merges {
		if c.ours != "" || len(c.layers) == 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var layers [][]byte
			for _, s := range c.layers {
				layers = append(layers, entries(t, s))
			}
			if diff := cmp.Diff(c.want, read(t, packTree(t, umoci(t, layers)))); diff != "" {
				t.Errorf("-ours +umoci\n%s", diff)
			}
		})
	}
}

// The same with all that an entry can say, and GNU tar as extractor of ours.
func TestFlattenExtracted(t *testing.T) {
	now := time.Unix(1700000000, 123456789)
	long := strings.Repeat("n", 255)
	xattrs := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "SCHILY.xattr.user.u": "v"}
	lower := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o751, ModTime: now},
		{Typeflag: tar.TypeDir, Name: "many/", Mode: 0o1777, ModTime: now},
		{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Uid: 1000000, Gid: 5, Uname: "suid", ModTime: now, PAXRecords: xattrs},
		{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: now},
		{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 259, Devminor: 70000, ModTime: now},
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600, ModTime: now},
		{Typeflag: tar.TypeDir, Name: long + "/", Mode: 0o700, Uid: 7, ModTime: time.Unix(4000000000, 5)},
		{Typeflag: tar.TypeReg, Name: long + "/" + long, Mode: 0o400, Uname: "deep", ModTime: now},
		{Typeflag: tar.TypeSymlink, Name: "link", Linkname: strings.Repeat("t/", 600) + "t", Mode: 0o777, ModTime: now},
	}
	for i := range 500 {
		lower = append(lower, tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("many/%05d", i), Mode: 0o644, Uname: fmt.Sprint(i), ModTime: now})
	}
	upper := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "many/", Mode: 0o755, ModTime: now.Add(1)},
		{Typeflag: tar.TypeReg, Name: "many/.wh.00005", ModTime: now},
		{Typeflag: tar.TypeLink, Name: "many/link", Linkname: "suid"},
		{Typeflag: tar.TypeReg, Name: "many/00007", Mode: 0o600, Uname: "new", ModTime: now},
		{Typeflag: tar.TypeReg, Name: ".wh.fifo", ModTime: now},
		{Typeflag: tar.TypeLink, Name: "null2", Linkname: "null"},
	}
	layers := [][]byte{tarOf(t, lower...), tarOf(t, upper...)}
	want := headers(t, packTree(t, umoci(t, layers)))
	dir := t.TempDir()
	cmd := exec.Command("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore", "--warning=no-timestamp", "-xpf", "-", "-C", dir)
	cmd.Stdin = bytes.NewReader(flatten(t, tarLayer(layers[0]), tarLayer(layers[1])))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if diff := cmp.Diff(want, headers(t, packTree(t, dir))); diff != "" {
		t.Errorf("-umoci +ours\n%s", diff)
	}
}

// packTree is the tar of a directory.
func packTree(t *testing.T, dir string) []byte {
	t.Helper()
	out, err := exec.Command("tar", "-C", dir, "--sort=name", "--format=posix", "--pax-option=delete=atime,delete=ctime",
		"--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", ".").Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	return out
}

// umoci unpacks layers as root and returns the directory.
func umoci(t *testing.T, layers [][]byte) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: to make devices and owners")
	}
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("needs umoci: apt-get install umoci")
	}
	if testing.Short() {
		t.Skip("needs time: unpacks many images")
	}
	dir := t.TempDir()
	type desc map[string]any
	blob := func(kind string, b []byte) desc {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		write(t, filepath.Join(dir, "blobs/sha256", sum), b)
		return desc{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum, "size": len(b)}
	}
	var descs []desc
	var ids []string
	for _, l := range layers {
		d := blob("layer.v1.tar", l)
		descs, ids = append(descs, d), append(ids, d["digest"].(string))
	}
	config := blob("config.v1+json", encode(t, desc{"architecture": "amd64", "os": "linux", "rootfs": desc{"type": "layers", "diff_ids": ids}}))
	manifest := blob("manifest.v1+json", encode(t, desc{"schemaVersion": 2, "config": config, "layers": descs}))
	manifest["annotations"] = desc{"org.opencontainers.image.ref.name": "x"}
	write(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write(t, filepath.Join(dir, "index.json"), encode(t, desc{"schemaVersion": 2, "manifests": []desc{manifest}}))
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.Command("umoci", "unpack", "--image", dir+":x", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v: %s", err, out)
	}
	return filepath.Join(bundle, "rootfs")
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// model is a file system as a map of paths: what Flatten's tree is checked
// against, with random layers. Directories hold "/", files a number that hard
// links share.
type model map[string]string

func (m model) remove(name string) {
	for p := range m {
		if p == name || strings.HasPrefix(p, name+"/") {
			delete(m, p)
		}
	}
}

func (m model) set(name, what string) {
	for i, c := range name {
		if dir := name[:i]; c == '/' && m[dir] != "/" {
			m.remove(dir)
			m[dir] = "/"
		}
	}
	if what != "/" || m[name] != "/" {
		m.remove(name)
	}
	m[name] = what
}

// String writes it in the language of entries.
func (m model) String() string {
	first := map[string]string{}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		what := m[name]
		switch {
		case what == "/":
		case first[what] != "":
			what = "=>" + first[what]
		default:
			first[what] = name
			what = "=" + what
		}
		out = append(out, name+what)
	}
	return strings.Join(out, " ")
}

func TestFlattenModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := model{}
		var layers []Layer
		var text []string
		files := 0
		for range rapid.IntRange(1, 4).Draw(rt, "layers") {
			lower := maps.Clone(m)
			var words, hidden []string
			steps := rapid.IntRange(0, 12).Draw(rt, "steps")
			kinds := rapid.SliceOfN(rapid.SampledFrom([]string{"file", "file", "dir", "link", "whiteout", "opaque"}), steps, steps).Draw(rt, "kinds")
			path := rapid.StringMatching(`[abc](/[abc]){0,2}`)
			// Whiteouts first in the model, anywhere in the layer.
			type step struct{ kind, name string }
			var add []step
			for _, kind := range kinds {
				name := path.Draw(rt, "name")
				dir, base := split(name)
				switch kind {
				case "whiteout":
					if dir != "" {
						dir += "/"
					}
					m.remove(name)
					hidden = append(hidden, dir+whiteoutPrefix+base)
				case "opaque":
					for p := range m {
						if strings.HasPrefix(p, name+"/") {
							delete(m, p)
						}
					}
					hidden = append(hidden, name+"/"+whiteoutOpaque)
				default:
					add = append(add, step{kind, name})
				}
			}
			for _, s := range add {
				switch s.kind {
				case "file":
					files++
					m.set(s.name, fmt.Sprint(files))
					words = append(words, s.name+"="+fmt.Sprint(files))
				case "dir":
					m.set(s.name, "/")
					words = append(words, s.name+"/")
				case "link":
					// To what the tree below or this layer so far holds.
					var targets []string
					for p, what := range m {
						if what != "/" {
							targets = append(targets, p)
						}
					}
					for p, what := range lower {
						if _, ok := m[p]; what != "/" && !ok {
							targets = append(targets, p)
						}
					}
					if len(targets) == 0 {
						continue
					}
					slices.Sort(targets)
					target := rapid.SampledFrom(targets).Draw(rt, "target")
					what := m[target]
					if what == "" {
						what = lower[target]
					}
					m.set(s.name, what)
					words = append(words, s.name+"=>"+target)
				}
			}
			// A whiteout may stand anywhere; the others keep their order.
			for _, w := range hidden {
				words = slices.Insert(words, rapid.IntRange(0, len(words)).Draw(rt, "place"), w)
			}
			text = append(text, strings.Join(words, " "))
			layers = append(layers, entries(t, strings.Join(words, " ")))
		}
		out := flatten(rt, layers...)
		if diff := cmp.Diff(m.String(), read(t, out)); diff != "" {
			rt.Fatalf("%q: -model +flattened\n%s", text, diff)
		}
		if !bytes.Equal(out, flatten(rt, tarLayer(out))) {
			rt.Fatalf("%q: flattening it again changes it", text)
		}
	})
}
