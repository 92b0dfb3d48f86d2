package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tarLayer is a layer in memory.
type tarLayer []byte

func (l tarLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l)), nil
}

// gzipLayer unpacks as layers from a registry do.
type gzipLayer []byte

func (l gzipLayer) Uncompressed() (io.ReadCloser, error) { return gzip.NewReader(bytes.NewReader(l)) }

func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := h.Uname // stands for the contents here
		h.Uname, h.Size, h.Format = "", int64(len(body)), tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%.80q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entries makes a layer of entries written as "dir/", "file=contents",
// "link->target" and "hardlink=>target".
func entries(t testing.TB, s string) tarLayer {
	t.Helper()
	now := time.Unix(1600000000, 500)
	var hs []tar.Header
	for word := range strings.FieldsSeq(s) {
		h := tar.Header{Typeflag: tar.TypeReg, Name: word, Mode: 0o644, ModTime: now}
		if name, to, ok := strings.Cut(word, "=>"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, name, to
		} else if name, to, ok := strings.Cut(word, "->"); ok {
			h.Typeflag, h.Name, h.Linkname, h.Mode = tar.TypeSymlink, name, to, 0o777
		} else if name, body, ok := strings.Cut(word, "="); ok {
			h.Name, h.Uname = name, body
		} else if strings.HasSuffix(word, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		hs = append(hs, h)
	}
	return tarOf(t, hs...)
}

// read lists a flattened tar in the language of entries, hard links to the first
// of their names, and proves the order that extractors need.
func read(t testing.TB, b []byte) string {
	t.Helper()
	seen := map[string]string{"": "/"}
	group := map[string][]string{}
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the result is no tar: %v", err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if name != path.Clean("/" + name)[1:] {
			t.Errorf("the name %q is not clean", h.Name)
		}
		if old, ok := seen[name]; ok && name != "" {
			t.Errorf("%q comes twice, first %s", name, old)
		}
		if dir, _ := split(name); seen[dir] != "/" {
			t.Errorf("%q comes before its parent, or its parent is no directory", name)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			seen[name] = "/"
		case tar.TypeReg:
			seen[name] = "=" + string(body)
		case tar.TypeSymlink:
			seen[name] = "->" + h.Linkname
		case tar.TypeLink:
			h.Linkname = strings.TrimPrefix(h.Linkname, "./")
			if what, ok := seen[h.Linkname]; !ok || what == "/" {
				t.Errorf("the link %q comes before its target %q", name, h.Linkname)
			}
			seen[name] = seen[h.Linkname]
			group[h.Linkname] = append(group[h.Linkname], name)
		default:
			seen[name] = fmt.Sprintf("(%c%d,%d)", h.Typeflag, h.Devmajor, h.Devminor)
		}
	}
	delete(seen, "")
	for first, names := range group {
		names = append(names, first)
		slices.Sort(names)
		for _, name := range names[1:] {
			seen[name] = "=>" + names[0]
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, name+seen[name])
	}
	return strings.Join(out, " ")
}

// fataler is a testing.TB or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
}

func flatten(t fataler, layers ...Layer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Flatten(context.Background(), layers, &b, Limits{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// merges are stacks of layers, and what is left of them. Those that umoci
// merges in another way, or not at all, say why ours is right.
var merges = []struct {
	name   string
	layers []string
	want   string
	ours   string
}{
	{name: "nothing", layers: nil, want: ""},
	{name: "empty layers", layers: []string{"", ""}, want: ""},
	{name: "one", layers: []string{"a/ a/b=1 c=2"}, want: "a/ a/b=1 c=2"},
	{name: "two", layers: []string{"a/ a/b=1 c=2", "a/ a/d=3"}, want: "a/ a/b=1 a/d=3 c=2"},
	{name: "replace", layers: []string{"a=1", "a=2"}, want: "a=2"},
	{name: "no parents", layers: []string{"a/b/c=1"}, want: "a/ a/b/ a/b/c=1"},
	{name: "odd names", layers: []string{"/a=1 ./b=2 c//d=3 e/./f=4"}, want: "a=1 b=2 c/ c/d=3 e/ e/f=4"},
	{name: "names out of the root", layers: []string{"../a=1 b/../../../c=2"}, want: "a=1 c=2", ours: "cleaned names make no b"},
	{name: "dots in names", layers: []string{"..a=1 b..=2 ...=3"}, want: "...=3 ..a=1 b..=2"},
	{name: "link out of the root", layers: []string{"a->../../../etc b->/etc"}, want: "a->../../../etc b->/etc"},

	{name: "whiteout", layers: []string{"a=1 b=2", ".wh.a"}, want: "b=2"},
	{name: "whiteout in a directory", layers: []string{"d/ d/a=1 d/b=2", "d/ d/.wh.a"}, want: "d/ d/b=2"},
	{name: "whiteout of a directory", layers: []string{"d/ d/a=1 d/e/ d/e/f=1 g=2", ".wh.d"}, want: "g=2"},
	{name: "whiteout of nothing", layers: []string{"a=1", ".wh.b x/.wh.y"}, want: "a=1", ours: "no x for a whiteout"},
	{name: "whiteout, then again", layers: []string{"d/ d/a=1", ".wh.d", "d/ d/b=2"}, want: "d/ d/b=2"},
	{name: "whiteout and new in one layer", layers: []string{"d/ d/a=1", ".wh.d d/ d/b=2"}, want: "d/ d/b=2"},
	{name: "new and whiteout in one layer", layers: []string{"d/ d/a=1", "d/ d/b=2 .wh.d"}, want: "d/ d/b=2"},
	{name: "whiteout in the lowest layer", layers: []string{".wh.a a=1"}, want: "a=1"},
	{name: "opaque", layers: []string{"d/ d/a=1 d/e/ d/e/f=1", "d/ d/.wh..wh..opq d/b=2"}, want: "d/ d/b=2"},
	{name: "opaque last", layers: []string{"d/ d/a=1 d/e/ d/e/f=1", "d/ d/e/ d/e/g=3 d/b=2 d/.wh..wh..opq"}, want: "d/ d/b=2 d/e/ d/e/g=3"},
	{name: "opaque root", layers: []string{"d/ d/a=1 b=2", ".wh..wh..opq c=3"}, want: "c=3"},
	{name: "opaque of nothing", layers: []string{"a=1", "d/ d/.wh..wh..opq d/b=2"}, want: "a=1 d/ d/b=2"},
	{name: "aufs's own", layers: []string{"a=1", ".wh..wh.plnk/ .wh..wh.plnk/1=2 .wh..wh.aufs=3 b=4"}, want: "a=1 b=4", ours: "AUFS's own files are not the image's"},

	{name: "directory becomes file", layers: []string{"a/ a/b=1 a/c/ a/c/d=1", "a=2"}, want: "a=2"},
	{name: "directory becomes link", layers: []string{"a/ a/b=1", "a->b"}, want: "a->b"},
	{name: "file becomes directory", layers: []string{"a=1", "a/ a/b=2"}, want: "a/ a/b=2"},
	{name: "link becomes directory", layers: []string{"u/ u/x=1 a->u", "a/ a/b=2"}, want: "a/ a/b=2 u/ u/x=1"},
	{name: "link becomes opaque directory", layers: []string{"u/ u/x=1 a->u", "a/ a/.wh..wh..opq a/b=2"}, want: "a/ a/b=2 u/ u/x=1"},
	{name: "opaque first, link becomes directory", layers: []string{"u/ u/x=1 a->u", "a/.wh..wh..opq a/ a/b=2"}, want: "a/ a/b=2 u/ u/x=1", ours: "the order in a layer must not matter"},
	{name: "file is implied to be a directory", layers: []string{"a=1", "a/b=2"}, want: "a/ a/b=2", ours: "the upper layer knows better"},
	{name: "last of one layer wins", layers: []string{"a=1 b=1 a=2 b->a"}, want: "a=2 b->a"},
	{name: "directory twice", layers: []string{"a/ a/b=1 a/"}, want: "a/ a/b=1"},

	{name: "link as parent", layers: []string{"usr/ usr/lib/ lib->usr/lib", "lib/x=1"}, want: "lib->usr/lib usr/ usr/lib/ usr/lib/x=1"},
	{name: "absolute link as parent", layers: []string{"usr/ usr/lib/ lib->/usr/lib", "lib/x=1"}, want: "lib->/usr/lib usr/ usr/lib/ usr/lib/x=1"},
	{name: "link out of the root as parent", layers: []string{"usr/ usr/lib/ lib->../../../usr/lib", "lib/x=1"}, want: "lib->../../../usr/lib usr/ usr/lib/ usr/lib/x=1"},
	{name: "dangling link as parent", layers: []string{"lib->usr/lib lib/x=1"}, want: "lib->usr/lib usr/ usr/lib/ usr/lib/x=1"},
	{name: "chain of links as parent", layers: []string{"a->b b->c/d c->e e/", "a/x=1"}, want: "a->b b->c/d c->e e/ e/d/ e/d/x=1"},
	{name: "whiteout below a link", layers: []string{"usr/ usr/a=1 usr/b=2 u->usr", "u/.wh.a"}, want: "u->usr usr/ usr/b=2"},
	{name: "whiteout of a link", layers: []string{"usr/ usr/a=1 u->usr", ".wh.u"}, want: "usr/ usr/a=1"},
	{name: "replace a link, not its target", layers: []string{"a=1 l->a", "l=2"}, want: "a=1 l=2"},

	{name: "hard link", layers: []string{"a=1 b=>a"}, want: "a=1 b=>a"},
	{name: "hard link down", layers: []string{"a=1", "b=>a"}, want: "a=1 b=>a"},
	{name: "hard link sorted first", layers: []string{"z=1 a=>z"}, want: "a=1 z=>a"},
	{name: "hard link to a link", layers: []string{"a->x b=>a"}, want: "a->x b=>a"},
	{name: "hard link of a hard link", layers: []string{"a=1 b=>a", "c=>b"}, want: "a=1 b=>a c=>a"},
	{name: "hard link, target gone", layers: []string{"a=1", "b=>a", ".wh.a"}, want: "b=1"},
	{name: "hard links, target gone", layers: []string{"a=1", "b=>a c=>a", ".wh.a"}, want: "b=1 c=>b"},
	{name: "hard link, target replaced", layers: []string{"a=1", "b=>a", "a=2"}, want: "a=2 b=1"},
	{name: "hard link, target a directory now", layers: []string{"a=1", "b=>a", "a/ a/c=2"}, want: "a/ a/c=2 b=1"},
	{name: "hard link, replaced", layers: []string{"a=1 b=>a", "b=2"}, want: "a=1 b=2"},
	{name: "hard link, target whited out with it", layers: []string{"a=1", "b=>a .wh.a"}, want: "b=1"},
	{name: "hard link, target whited out before it", layers: []string{"a=1", ".wh.a b=>a"}, want: "b=1", ours: "the order in a layer must not matter"},
	{name: "hard link through a link", layers: []string{"d/ d/a=1 l->d", "b=>l/a"}, want: "b=1 d/ d/a=>b l->d"},
	{name: "hard link before its target", layers: []string{"b=>a a=1"}, want: "a=1 b=>a", ours: "crane flatten writes such tars"},
	{name: "hard link out of the root", layers: []string{"a=1 d/ d/b=>../../a"}, want: "a=1 d/ d/b=>a"},
	{name: "hard link to itself", layers: []string{"a=1", "a=>a"}, want: "a=1", ours: "linking to oneself is harmless"},
	{name: "hard link over a directory", layers: []string{"a=1 d/ d/x=2", "d=>a"}, want: "a=1 d=>a"},
	{name: "hard link into what it replaces", layers: []string{"d/ d/x=2", "d=>d/x"}, want: "d=2", ours: "the file lives on"},
}

func TestFlatten(t *testing.T) {
	for _, c := range merges {
		t.Run(c.name, func(t *testing.T) {
			var layers []Layer
			for _, s := range c.layers {
				layers = append(layers, entries(t, s))
			}
			out := flatten(t, layers...)
			if diff := cmp.Diff(c.want, read(t, out)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if !bytes.Equal(out, flatten(t, tarLayer(out))) {
				t.Error("flattening it again changes it")
			}
		})
	}
}

// What an entry says of a file must come out as it went in.
func TestFlattenMetadata(t *testing.T) {
	now := time.Unix(1700000000, 123456789)
	long := strings.Repeat("n", 255)
	records := map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00",
		"SCHILY.xattr.user.large":          strings.Repeat("v", 3000),
		"SCHILY.xattr.trusted.empty":       "",
	}
	in := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o1700, Uid: 9, Gid: 8, ModTime: now, PAXRecords: records},
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o2755, Uid: 4294967294, Gid: 1000000, ModTime: time.Unix(-5, 7)},
		{Typeflag: tar.TypeDir, Name: long + "/", Mode: 0o755, ModTime: now},
		{Typeflag: tar.TypeReg, Name: long + "/" + long, Mode: 0o6755, Uid: 3000000000, ModTime: time.Unix(1<<33, 1), PAXRecords: records},
		{Typeflag: tar.TypeReg, Name: "Gr\xfc\xdfe \u2603", Mode: 0, ModTime: time.Unix(0, 1)},
		{Typeflag: tar.TypeSymlink, Name: "l", Linkname: strings.Repeat("t/", 2047), Mode: 0o777, Uid: 5, ModTime: now},
		{Typeflag: tar.TypeChar, Name: "c", Mode: 0o666, Devmajor: 4095, Devminor: 1048575, ModTime: now},
		{Typeflag: tar.TypeBlock, Name: "b", Mode: 0o660, Devmajor: 259, Devminor: 3, ModTime: now},
		{Typeflag: tar.TypeFifo, Name: "f", Mode: 0o600, ModTime: now, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}},
	}
	want := headers(t, tarOf(t, in...))
	// The lower layer's versions of the same must not shine through.
	lower := slices.Clone(in)
	for i := range lower {
		lower[i].Mode, lower[i].Uid, lower[i].ModTime, lower[i].PAXRecords = 0o700, 77, time.Unix(5, 0), map[string]string{"SCHILY.xattr.user.old": "1"}
	}
	got := headers(t, flatten(t, tarLayer(tarOf(t, lower...)), tarLayer(tarOf(t, in...))))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// headers reads what matters of a tar's headers.
func headers(t *testing.T, b []byte) map[string]tar.Header {
	t.Helper()
	out := map[string]tar.Header{}
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		x := tar.Header{Typeflag: h.Typeflag, Linkname: h.Linkname, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime,
			Devmajor: h.Devmajor, Devminor: h.Devminor, Size: h.Size}
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, xattrRecord) {
				if x.PAXRecords == nil {
					x.PAXRecords = map[string]string{}
				}
				x.PAXRecords[k] = v
			}
		}
		out[h.Name] = x
	}
}

// Old tars and those of git archive have entries of odd types.
func TestFlattenOldTypes(t *testing.T) {
	b := tarOf(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c0ffee"}},
		tar.Header{Typeflag: tar.TypeCont, Name: "a", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "b", Mode: 0o644, Uname: "body"})
	if got := read(t, flatten(t, tarLayer(b))); got != "a= b=body" {
		t.Errorf("got %q", got)
	}
}

// Whether layers are kept, or are read twice, makes no difference; nor does a
// scratch directory that can't be used, or too little left for all.
func TestFlattenScratch(t *testing.T) {
	stack := []string{"z/ z/a=1 y=2 x=>y", "b/ b/c=" + strings.Repeat("c", 3000) + " .wh.y w=>x", "m=1"}
	var layers []Layer
	opened := 0
	for _, s := range stack {
		packed := gzipLayer(pack(t, entries(t, s)))
		layers = append(layers, funcLayer(func() (io.ReadCloser, error) { opened++; return packed.Uncompressed() }))
	}
	want := flatten(t, layers...)
	if opened != 6 {
		t.Errorf("opened %d layers, not each twice", opened)
	}
	dir := t.TempDir()
	for _, c := range []struct {
		k      *keeper
		opened int
	}{{newKeeper(""), 6}, {newKeeper(dir + "/no"), 6}, {&keeper{dir: dir + "/no", left: 1 << 20}, 6}, {&keeper{dir: dir, left: 1 << 20}, 3}, {&keeper{dir: dir, left: 4000}, 5}} {
		opened = 0
		left := c.k.left
		var got bytes.Buffer
		if err := merge(t.Context(), layers, &got, Limits{}, c.k); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%+v: another result", c.k)
		}
		if opened != c.opened || c.k.left != left {
			t.Errorf("%+v: opened %d layers, not %d; %d bytes left of %d", c.k, opened, c.opened, c.k.left, left)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFlattenIsReproducible(t *testing.T) {
	var layers []Layer
	for _, s := range []string{"z/ z/a=1 y=2 x=>y m/n/o/p=4", "b/ b/c=1 .wh.y w=>x", "m/ m/.wh..wh..opq m/q=2"} {
		layers = append(layers, entries(t, s))
	}
	if !bytes.Equal(flatten(t, layers...), flatten(t, layers...)) {
		t.Error("two runs differ")
	}
}
