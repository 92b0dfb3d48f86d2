package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func put(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func extracted(t *testing.T, b []byte) ([]byte, error) {
	t.Helper()
	src := put(t, b)
	if err := extract(src, src+".out"); err != nil {
		return nil, err
	}
	out, err := os.ReadFile(src + ".out")
	if err != nil {
		t.Fatal(err)
	}
	return out, nil
}

func TestExtract(t *testing.T) {
	arm := append(make([]byte, 56), "ARM\x64 and more"...)
	zboot := func(p []byte) []byte {
		b := append([]byte("MZ\x00\x00zimg"), make([]byte, 92)...)
		binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
		binary.LittleEndian.PutUint32(b[12:], uint32(len(p)))
		return append(b, p...)
	}
	for _, format := range []string{"none", "gzip", "bzip2", "xz", "zstd", "lz4"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			pad := 1 << 20
			if format == "lz4" {
				pad = 9 << 20 // more than one of its blocks
			}
			k := elfKernel{version: "6.1.0-56-test", pad: pad}.bytes()
			z := compress(t, format, k)
			for name, in := range map[string][]byte{"bzImage": bzImage(z, len(k)), "bare": z} {
				got, err := extracted(t, in)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !bytes.Equal(got, k) {
					t.Errorf("%s: %d bytes came out, not the %d that went in", name, len(got), len(k))
				}
			}
		})
	}
	for name, in := range map[string][]byte{"arm64": arm, "arm64 gzip": gz(arm), "zboot": zboot(gz(arm))} {
		if got, err := extracted(t, in); err != nil || !bytes.Equal(got, arm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	k := elfKernel{version: "6.1.0"}.bytes()
	whole := bzImage(gz(k), len(k))
	old := bytes.Clone(whole)
	binary.LittleEndian.PutUint16(old[0x206:], 0x207)
	far := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(far[0x248:], 0xfffffff0)
	for _, c := range []struct {
		name, want string
		in         []byte
	}{
		{"empty", "empty", nil},
		{"text", "neither an ELF", []byte("hello, this is a web page")},
		{"truncated bzImage", "cut short", whole[:len(whole)-60]},
		{"truncated gzip", "decompressing", gz(k)[:len(gz(k))-20]},
		{"old protocol", "older than 2.08", old},
		{"offset outside", "cut short", far},
		{"lzma", "lzma compression isn't supported", bzImage([]byte("\x5d\x00\x00\x80\x00 and so on"), 1)},
	} {
		_, err := extracted(t, c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) || wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestInspect(t *testing.T) {
	config := "CONFIG_VIRTIO_BLK=y\n"
	k, err := inspect(put(t, elfKernel{version: "6.18.3+deb13-cloud-amd64", config: config, pad: 3 << 20}.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if k.Arch != "amd64" || k.Version != "6.18.3+deb13-cloud-amd64" || !k.PVH || string(k.config) != config {
		t.Errorf("read %+v, config %q", k, k.config)
	}
	if k, err := inspect(put(t, elfKernel{version: "5.10.1", noPVH: true}.bytes())); err != nil || k.PVH {
		t.Errorf("a kernel without the note: %+v, %v", k, err)
	}
	whole := elfKernel{version: "6.1.0", pad: 5000}.bytes()
	for n, of := range map[int]int{4: 64, 63: 64, 64: 176, 119: 176, 200: len(whole), 1000: len(whole), len(whole) - 1: len(whole)} {
		_, err := inspect(put(t, whole[:n]))
		if says := fmt.Sprintf("a truncated ELF: %d of %d bytes", n, of); wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%d bytes of a kernel: %v, want %q", n, err, says)
		}
	}
	sections := bytes.Clone(whole[:len(whole)-8])
	binary.LittleEndian.PutUint64(sections[40:], uint64(len(whole)))
	binary.LittleEndian.PutUint16(sections[60:], 3)
	if _, err := inspect(put(t, sections)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%d of %d bytes", len(sections), len(whole)+3*64)) {
		t.Errorf("without section headers: %v", err)
	}
	beyond := bytes.Clone(whole)
	binary.LittleEndian.PutUint64(beyond[64+elfProgHeader+32:], 1<<63)
	if _, err := inspect(put(t, beyond)); wire.CodeOf(err) != wire.Invalid || strings.Contains(err.Error(), "truncated") {
		t.Errorf("with a segment of 8 EiB: %v", err)
	}
	whole[18] = 183 // aarch64
	if _, err := inspect(put(t, whole)); err == nil {
		t.Error("an arm64 ELF is no kernel that anybody boots")
	}
	if _, err := inspect(put(t, moduleELF("depends="))); err == nil {
		t.Error("a module isn't a kernel")
	}
}

// FuzzKernelFile: any file is refused or read, and never more is written than
// its bound.
func FuzzKernelFile(f *testing.F) {
	k := elfKernel{version: "6.1.0", config: "CONFIG_PVH=y"}.bytes()
	f.Add(k)
	f.Add(bzImage(gz(k), len(k)))
	f.Add(bzImage(compress(f, "zstd", k), len(k)))
	f.Add(bzImage(compress(f, "lz4", k), len(k)))
	f.Add(bzImage([]byte("\xfd7zXZ\x00\x00\x01"), 9))
	f.Add(append([]byte("MZ\x00\x00zimg"), make([]byte, 92)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		if err := os.WriteFile(src, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if extract(src, dst) == nil {
			_, _ = inspect(dst)
		}
	})
}
