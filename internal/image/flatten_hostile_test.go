package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestFlattenRefuses(t *testing.T) {
	name256 := strings.Repeat("n", 256)
	deep := strings.Repeat(strings.Repeat("d", 254)+"/", 17)
	for _, c := range []struct {
		name   string
		layers []string
		says   string
	}{
		{"long name", []string{name256 + "=1"}, "256 bytes"},
		{"long name in the middle", []string{"a/" + name256 + "/b=1"}, "256 bytes"},
		{"long path", []string{deep + "a=1"}, "a path of"},
		{"long path through a link", []string{"l->" + deep[:4080] + " l/" + deep[:254] + "/a=1"}, "longer than"},
		{"long name through a link", []string{"l->" + name256 + " l/a=1"}, "256 bytes"},
		{"long target", []string{"l->" + strings.Repeat("x", 4096)}, "target"},
		{"empty target", []string{"l->"}, "target"},
		{"whiteout without a name", []string{"d/.wh."}, "whiteout"},
		{"whiteout of the parent", []string{"d/.wh..."}, "whiteout"},
		{"whiteout of the directory", []string{"d/.wh.."}, "whiteout"},
		{"entry below a whiteout", []string{".wh.d/a=1"}, "whiteout"},
		{"whiteout through a link", []string{"l->.wh.x l/a=1"}, "whiteout"},
		{"loop", []string{"a->b b->a a/c=1"}, "symbolic links"},
		{"link to itself", []string{"a->a a/c=1"}, "symbolic links"},
		{"dangling hard link", []string{"a=>b"}, `"b"`},
		{"dangling hard links", []string{"a=>b b=>c c=>a"}, "target"},
		{"hard link to a directory", []string{"d/ a=>d"}, `"d"`},
		{"hard link to the root", []string{"a=>/"}, "target"},
		{"root a link", []string{"./->/etc"}, "root"},
		{"root a file", []string{"..=1"}, "root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			layers := []Layer{entries(t, "fine=1")}
			for _, s := range c.layers {
				layers = append(layers, entries(t, s))
			}
			err := Flatten(t.Context(), layers, io.Discard, Limits{})
			if wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "layer 2 of 2: entry ") {
				t.Errorf("got %v, want one of layer 2 that says %q", err, c.says)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
	for name, h := range map[string]tar.Header{
		"device":       {Typeflag: tar.TypeChar, Name: "d", Devmajor: 5000},
		"minor":        {Typeflag: tar.TypeBlock, Name: "d", Devminor: 1 << 20},
		"owner":        {Typeflag: tar.TypeReg, Name: "d", Uid: 1<<32 - 1},
		"unknown type": {Typeflag: 'Q', Name: "d"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Flatten(t.Context(), []Layer{tarLayer(tarOf(t, h))}, io.Discard, Limits{})
			if wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), `entry "d"`) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A layer that is cut short or damaged anywhere is named. Only a cut at the
// end of an entry can't be seen in a tar; gzip sees it.
func TestFlattenDamaged(t *testing.T) {
	whole := pack(t, entries(t, "a=1 b=2 c="+strings.Repeat("c", 3000)))
	for cut := range len(whole) - 1 {
		err := Flatten(t.Context(), []Layer{entries(t, "x=1"), gzipLayer(whole[:cut+1])}, io.Discard, Limits{})
		if wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), "layer 2 of 2") {
			t.Fatalf("cut at %d of %d: %v", cut+1, len(whole), err)
		}
	}
	for at := 10; at < len(whole); at += 7 { // past gzip's own header, where some bits mean nothing
		bent := bytes.Clone(whole)
		bent[at] ^= 0x10
		if err := Flatten(t.Context(), []Layer{gzipLayer(bent)}, io.Discard, Limits{}); wire.CodeOf(err) != wire.Invalid {
			t.Fatalf("a bit at %d of %d: %v", at, len(whole), err)
		}
	}
	err := Flatten(t.Context(), []Layer{tarLayer(bytes.Repeat([]byte("no tar "), 1000))}, io.Discard, Limits{})
	if wire.CodeOf(err) != wire.Invalid {
		t.Errorf("garbage: %v", err)
	}
}

func pack(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFlattenLimits(t *testing.T) {
	many := strings.Repeat("a/b=1 ", 50)
	for _, c := range []struct {
		name  string
		layer Layer
		lim   Limits
		ok    bool
	}{
		{"entries", entries(t, many), Limits{MaxEntries: 49}, false},
		{"entries fit", entries(t, many), Limits{MaxEntries: 51}, true},
		{"implied directories", entries(t, strings.Repeat("d/", 200)+"x=1"), Limits{MaxEntries: 150}, false},
		{"bytes", entries(t, "a="+strings.Repeat("x", 1000)+" b="+strings.Repeat("y", 1000)), Limits{MaxBytes: 1999}, false},
		{"bytes fit", entries(t, "a="+strings.Repeat("x", 1000)+" b="+strings.Repeat("y", 1000)), Limits{MaxBytes: 2000}, true},
		{"zeros after the end", funcLayer(func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(entries(t, "a=1")), zeroReader{})), nil
		}), Limits{MaxBytes: 1 << 20}, false},
		{"headers without end", funcLayer(func() (io.ReadCloser, error) {
			return io.NopCloser(&repeat{b: entries(t, "a=1")[:1024]}), nil
		}), Limits{MaxBytes: 1 << 20}, false},
		{"entries without end", funcLayer(func() (io.ReadCloser, error) {
			return io.NopCloser(&repeat{b: entries(t, "a=1")[:2048]}), nil
		}), Limits{MaxEntries: 1000}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Flatten(t.Context(), []Layer{c.layer}, io.Discard, c.lim)
			if c.ok && err != nil || !c.ok && wire.CodeOf(err) != wire.Exhausted {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLimitIsReadable(t *testing.T) {
	bomb := funcLayer(func() (io.ReadCloser, error) { return io.NopCloser(&repeat{b: entries(t, "a=1")[:1024]}), nil })
	err := Flatten(t.Context(), []Layer{bomb}, io.Discard, Limits{MaxBytes: 2 << 20})
	wantError(t, err, wire.Exhausted, "more than 2 MiB")
	for n, want := range map[int64]string{64 << 30: "64 GiB", 1<<30 + 1<<20: "1025 MiB", 3 << 19: "1.5 MiB", 4096: "4096 bytes"} {
		if got := inUnits(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}

type funcLayer func() (io.ReadCloser, error)

func (f funcLayer) Uncompressed() (io.ReadCloser, error) { return f() }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type repeat struct{ b, left []byte }

func (r *repeat) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		r.left = r.b
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// Links that lead round and round are given up, not followed for hours.
func TestFlattenLinkMaze(t *testing.T) {
	var s strings.Builder
	s.WriteString("d/ ")
	for i := range 39 {
		fmt.Fprintf(&s, "l%d->%sl%d ", i, strings.Repeat("d/../", 800), i+1)
	}
	s.WriteString("l39->d ")
	for i := range 2000 {
		fmt.Fprintf(&s, "l0/f%d=1 ", i)
	}
	err := Flatten(t.Context(), []Layer{entries(t, s.String())}, io.Discard, Limits{})
	if wire.CodeOf(err) != wire.Exhausted {
		t.Errorf("got %v", err)
	}
}

// A sparse file's holes take no room in the layer but do in the base.
func TestFlattenSparse(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("needle"), 3<<20); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		b, err := exec.Command("tar", "-S", "--format="+format, "-C", dir, "-c", "sparse").Output()
		if err != nil {
			t.Skipf("needs GNU tar: %v", err)
		}
		if len(b) > 1<<20 {
			t.Skip("needs a file system with holes")
		}
		if err := Flatten(t.Context(), []Layer{tarLayer(b)}, io.Discard, Limits{MaxBytes: 1<<30 - 1}); wire.CodeOf(err) != wire.Exhausted {
			t.Errorf("%s: got %v", format, err)
		}
		if err := f.Truncate(4 << 20); err != nil {
			t.Fatal(err)
		}
		if b, err = exec.Command("tar", "-S", "--format="+format, "-C", dir, "-c", "sparse").Output(); err != nil {
			t.Fatal(err)
		}
		got := read(t, flatten(t, tarLayer(b)))
		if want := "sparse=" + strings.Repeat("\x00", 3<<20) + "needle" + strings.Repeat("\x00", 1<<20-6); got != want {
			t.Errorf("%s: %d bytes that differ from the %d of the file", format, len(got), len(want))
		}
		if err := f.Truncate(1 << 30); err != nil {
			t.Fatal(err)
		}
	}
}

// Contents are never held in memory.
func TestFlattenMemory(t *testing.T) {
	const size = 256 << 20
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "large", Size: size}); err != nil {
		t.Fatal(err)
	}
	l := funcLayer(func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(head.Bytes()), io.LimitReader(zeroReader{}, size+1024))), nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Flatten(t.Context(), []Layer{l}, io.Discard, Limits{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("allocated %d MiB for a file of 256", n>>20)
	}
}

type namedLayer struct{ Layer }

func (namedLayer) String() string { return "sha256:c0ffee" }

func TestFlattenErrors(t *testing.T) {
	cause := wire.Errorf(wire.Unavailable, "the registry is gone").WithHint("wait")
	broken := funcLayer(func() (io.ReadCloser, error) { return nil, cause })
	err := Flatten(t.Context(), []Layer{namedLayer{broken}}, io.Discard, Limits{})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Unavailable || e.Hint != "wait" || !strings.Contains(e.Message, "layer 1 of 1 (sha256:c0ffee)") {
		t.Errorf("layer that can't be opened: %#v", err)
	}

	n := 0
	changing := funcLayer(func() (io.ReadCloser, error) {
		n++
		return entries(t, "a="+strings.Repeat("x", n)).Uncompressed()
	})
	if err := Flatten(t.Context(), []Layer{changing}, io.Discard, Limits{}); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("layer that changes: %v", err)
	}

	full := errors.New("no room")
	err = Flatten(t.Context(), []Layer{entries(t, "a=1")}, failingWriter{full}, Limits{})
	if !errors.Is(err, full) || strings.Contains(err.Error(), "layer") {
		t.Errorf("writer that fails: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	stop := funcLayer(func() (io.ReadCloser, error) { cancel(); return io.NopCloser(zeroReader{}), nil })
	if err := Flatten(ctx, []Layer{stop}, io.Discard, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
