package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestUnpackDeb(t *testing.T) {
	for _, format := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(format, func(t *testing.T) {
			tr, err := unpackDebs(t.Context(), t.TempDir(), put(t, debKernel(t, "6.1.0-9-test", format)))
			if err != nil {
				t.Fatal(err)
			}
			if tr.version != "6.1.0-9-test" || tr.config == "" {
				t.Errorf("found %+v", tr)
			}
			if _, err := os.Stat(filepath.Join(tr.modules(), "virtio-rng.ko")); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(filepath.Join(tr.modules(), "evil.ko")); err == nil {
				t.Error("a link was unpacked")
			}
		})
	}
}

func TestUnpackHostileDeb(t *testing.T) {
	out := t.TempDir()
	data := tarOf(t,
		tarEntry{name: "../boot/vmlinuz-1", data: "x"},
		tarEntry{name: "./lib/modules/../../../../etc/x.ko", data: "x"},
		tarEntry{name: "lib/modules/../x.ko", data: "x"},
		tarEntry{name: "/boot/vmlinuz-2", data: "kernel"},
		tarEntry{name: "boot/vmlinuz-3", data: "second"},
		tarEntry{name: "lib/modules/1/a/same.ko", data: "first"},
		tarEntry{name: "lib/modules/1/b/same.ko", data: "second"},
	)
	tr, err := unpackDebs(t.Context(), filepath.Join(out, "deb"), put(t, arOf("debian-binary", "2.0\n", "data.tar", string(data))))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	filepath.WalkDir(out, func(p string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			rel, _ := filepath.Rel(out, p)
			files = append(files, rel)
		}
		return err
	})
	if want := []string{"deb/modules/same.ko", "deb/vmlinuz"}; !slices.Equal(files, want) {
		t.Errorf("unpacked %v, want %v", files, want)
	}
	if tr.version != "2" {
		t.Errorf("took version %s", tr.version)
	}
}

func TestUnpackRefuses(t *testing.T) {
	whole := debKernel(t, "6.1.0", "gzip")
	for name, b := range map[string][]byte{
		"empty":       nil,
		"cut":         whole[:len(whole)*2/3],
		"no data":     arOf("debian-binary", "2.0\n"),
		"bad size":    bytes.Replace(whole, []byte("4         `\n"), []byte("-4        `\n"), 1),
		"no kernel":   arOf("data.tar", string(tarOf(t, tarEntry{name: "usr/bin/x"}))),
		"not a tar":   arOf("data.tar.gz", string(gz(bytes.Repeat([]byte("noise"), 300)))),
		"unknown fmt": arOf("data.tar.lzma", "\x5d\x00\x00\x80\x00 and so on"),
	} {
		_, err := unpackDebs(t.Context(), t.TempDir(), put(t, b))
		if wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBoundedReader(t *testing.T) {
	for size, ok := range map[int]bool{9: true, 10: true, 11: false} {
		n, err := bytes.NewBuffer(nil).ReadFrom(bounded(strings.NewReader(strings.Repeat("x", size)), 10))
		if (err == nil) != ok || n > 10 {
			t.Errorf("%d bytes: read %d, %v", size, n, err)
		}
	}
}

func FuzzDeb(f *testing.F) {
	f.Add(debKernel(f, "6.1.0", "gzip"))
	f.Add(debKernel(f, "6.1.0", "none"))
	f.Add(arOf("data.tar", "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "deb")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = unpackDebs(t.Context(), t.TempDir(), path)
	})
}
