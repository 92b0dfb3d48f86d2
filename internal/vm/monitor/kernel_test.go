package monitor

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

// elfKernel is the least kernel that can boot: a program header, and a note.
func elfKernel(note string) []byte {
	b := make([]byte, 64+2*56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	le.PutUint16(b[58:], 64)
	for i, kind := range []uint32{1, 4} {
		p := b[64+56*i:]
		le.PutUint32(p, kind)
		le.PutUint64(p[8:], uint64(len(b)))
		le.PutUint64(p[32:], uint64(len(note)))
		le.PutUint64(p[40:], uint64(len(note)))
	}
	return append(b, note...)
}

const pvhNote = "\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00\x00\x00\x00\x01"

func TestKernelCheck(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64")
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"good":    {elfKernel(pvhNote), ""},
		"no note": {elfKernel(strings.Replace(pvhNote, "Xen", "Xin", 1)), "CONFIG_PVH"},
		"short":   {elfKernel(pvhNote)[:64+2*56+4], "cut short"},
		"bzImage": {bytes.Repeat([]byte("HdrS"), 1000), "no vmlinux"},
	} {
		path := filepath.Join(t.TempDir(), "kernel")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		err := CheckKernel(path, true)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestKernelThatIsNotThere says what to do.
func TestKernelThatIsNotThere(t *testing.T) {
	err := CheckKernel(filepath.Join(t.TempDir(), "none"), true)
	if wire.CodeOf(err) != wire.NotFound || HintOf(err) == "" {
		t.Errorf("no kernel: %v", err)
	}
}

// FuzzKernelCheck reads what someone took for a kernel.
func FuzzKernelCheck(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(elfKernel(pvhNote))
	f.Add(elfKernel("\xff\xff\xff\xff\xff\xff\xff\xff\x12\x00\x00\x00Xen\x00"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := os.CreateTemp(dir, "kernel")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		defer os.Remove(file.Name())
		if _, err := file.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = bootable(file, true)
	})
}
