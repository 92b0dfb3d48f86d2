package kernel

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestFetchTarball(t *testing.T) {
	src := put(t, gz(tarOf(t,
		tarEntry{name: "./", typ: tar.TypeDir, mode: 0o777},
		tarEntry{name: "./bridge", data: "program", mode: 0o6755},
		tarEntry{name: "./README", data: "text"},
		tarEntry{name: "sub/deep/file", data: "x"},
		tarEntry{name: "sub/link", typ: tar.TypeSymlink, link: "../bridge"},
		tarEntry{name: "hard", typ: tar.TypeLink, link: "bridge"},
	)))
	dir := filepath.Join(t.TempDir(), "cni", "bin")
	for range 2 { // the second time over the first
		if err := FetchTarball(t.Context(), src, dir, FetchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"bridge": "program", "hard": "program", "sub/link": "program", "README": "text", "sub/deep/file": "x"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if st, _ := os.Stat(filepath.Join(dir, "bridge")); st.Mode() != 0o755 {
		t.Errorf("a program has mode %v", st.Mode())
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	own := filepath.Join(dir, "own")
	os.WriteFile(own, nil, 0o644)
	if err := FetchTarball(t.Context(), src, dir, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Error("somebody else's file is gone")
	}
}

func TestFetchHostileTarball(t *testing.T) {
	for name, entries := range map[string][]tarEntry{
		"dots":       {{name: "../out", data: "x"}},
		"absolute":   {{name: "/out", data: "x"}},
		"link out":   {{name: "l", typ: tar.TypeSymlink, link: "../.."}, {name: "l/out", data: "x"}},
		"link abs":   {{name: "l", typ: tar.TypeSymlink, link: "/etc"}},
		"hard out":   {{name: "l", typ: tar.TypeLink, link: "../../etc/passwd"}},
		"device":     {{name: "null", typ: tar.TypeChar}},
		"link chain": {{name: "a/b", typ: tar.TypeSymlink, link: "../.."}},
		"good, bad":  {{name: "good", data: "x"}, {name: "..", data: "x"}},
		"fifo":       {{name: "f", typ: tar.TypeFifo}},
		"bomb":       {{name: "zeros", data: strings.Repeat("\x00", 1<<20)}},
	} {
		dir := filepath.Join(t.TempDir(), "in", "dir")
		src := put(t, gz(tarOf(t, entries...)))
		err := FetchTarball(t.Context(), src, dir, FetchOptions{MaxBytes: 1 << 20})
		if code := wire.CodeOf(err); code != wire.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func FuzzUntar(f *testing.F) {
	f.Add(tarOf(f, tarEntry{name: "a/b", data: "x"}, tarEntry{name: "a/l", typ: tar.TypeSymlink, link: "../x"}, tarEntry{name: "h", typ: tar.TypeLink, link: "a/b"}))
	f.Add(tarOf(f, tarEntry{name: "../b", data: "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		in := filepath.Join(top, "in")
		os.Mkdir(in, 0o755)
		_ = untarFile(t.Context(), put(t, b), in, 1<<20)
		if left, _ := os.ReadDir(top); len(left) != 1 {
			t.Fatalf("outside: %v", left)
		}
	})
}
