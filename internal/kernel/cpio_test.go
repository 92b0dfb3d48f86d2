package kernel

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bandsox/bandsox/internal/wire"
)

type cpioEntry struct {
	name             string
	ino, mode, links int
	rmaj, rmin       int
	data             string
}

// readCpio reads a newc archive, strictly.
func readCpio(t testing.TB, b []byte) []cpioEntry {
	t.Helper()
	var out []cpioEntry
	off := 0
	take := func(n int) []byte {
		if off+n > len(b) {
			t.Fatalf("ends at %d, more was announced", len(b))
		}
		p := b[off : off+n]
		off += n
		return p
	}
	align := func() {
		if pad := take(-off & 3); len(bytes.Trim(pad, "\x00")) > 0 {
			t.Fatal("padding isn't zero")
		}
	}
	for {
		if magic := string(take(6)); magic != "070701" {
			t.Fatalf("magic %q at %d", magic, off-6)
		}
		var f [13]int
		for i := range f {
			v, err := strconv.ParseUint(string(take(8)), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			f[i] = int(v)
		}
		name := strings.TrimSuffix(string(take(f[11])), "\x00")
		align()
		data := string(take(f[6]))
		align()
		if f[2] != 0 || f[3] != 0 || f[5] != 0 {
			t.Errorf("%s: owner or time isn't zero", name)
		}
		if name == cpioEnd {
			return out
		}
		out = append(out, cpioEntry{name, f[0], f[1], f[4], f[9], f[10], data})
	}
}

// testKernel is an installed kernel with a few modules.
func testKernel(t testing.TB) *Kernel {
	t.Helper()
	deb := filepath.Join(t.TempDir(), "k.deb")
	if err := os.WriteFile(deb, debKernel(t, "6.1.0-9-test", "gzip"), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := Install(t.Context(), filepath.Join(t.TempDir(), "kernels"), InstallOptions{Source: deb, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestInitramfs(t *testing.T) {
	k, dir := testKernel(t), t.TempDir()
	agent := []byte("\x7fELF agent")
	path := filepath.Join(dir, "initrd")
	if err := WriteInitramfs(path, agent, k, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := readCpio(t, b)
	var list []string
	for i, e := range entries {
		list = append(list, fmt.Sprintf("%06o %d,%d %s", e.mode, e.rmaj, e.rmin, e.name))
		if e.ino != i+1 {
			t.Errorf("%s has inode %d, want %d", e.name, e.ino, i+1)
		}
	}
	want := []string{
		"040755 0,0 dev", "020600 5,1 dev/console", "020600 1,11 dev/kmsg", "020666 1,3 dev/null",
		"100755 0,0 init", "040755 0,0 modules", "100644 0,0 modules/order", "100644 0,0 modules/overlay.ko",
		"100644 0,0 modules/virtio.ko", "100644 0,0 modules/virtio_blk.ko", "100644 0,0 modules/virtio_console.ko",
		"100644 0,0 modules/virtio_mmio.ko", "100644 0,0 modules/virtio_ring.ko",
		"040755 0,0 newroot", "040755 0,0 proc", "040755 0,0 run", "040755 0,0 sys", "040755 0,0 tmp",
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	order := strings.Fields(entries[6].data)
	for _, after := range []string{"virtio.ko", "virtio_blk.ko"} {
		if slices.Index(order, "virtio_ring.ko") > slices.Index(order, after) {
			t.Errorf("the order %v has virtio_ring too late", order)
		}
	}
	if entries[4].data != string(agent) {
		t.Error("/init isn't the agent")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestInitramfsReproducible: equal inputs give equal bytes, wherever and
// whenever.
func TestInitramfsReproducible(t *testing.T) {
	var first []byte
	for i := range 3 {
		k, path := testKernel(t), filepath.Join(t.TempDir(), "initrd")
		want := append([]string{"virtio_net", "virtio_rng"}, MicroVM...)
		if i == 2 {
			slices.Reverse(want)
		}
		if err := WriteInitramfs(path, []byte("\x7fELF agent"), k, want); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			t.Fatal("two initramfs of the same parts differ")
		}
	}
	if !bytes.Contains(first, []byte("modules/failover.ko")) {
		t.Error("what virtio_net needs isn't there")
	}
}

func TestInitramfsRefuses(t *testing.T) {
	k, path := testKernel(t), filepath.Join(t.TempDir(), "initrd")
	if err := WriteInitramfs(path, []byte("#!/bin/sh"), k, nil); wire.CodeOf(err) != wire.Invalid {
		t.Errorf("a script as agent: %v", err)
	}
	if err := WriteInitramfs(path, []byte("\x7fELF"), k, []string{"virtio_pci"}); wire.CodeOf(err) != wire.NotFound || hintOf(err) == "" {
		t.Errorf("a driver that isn't there: %v", err)
	}
	os.Remove(filepath.Join(k.Modules, "overlay.ko"))
	if err := WriteInitramfs(path, []byte("\x7fELF"), k, nil); err == nil {
		t.Error("a module's file is gone, and nobody minds")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestInitramfsByCpio has the real program read it.
func TestInitramfsByCpio(t *testing.T) {
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("needs cpio: not in PATH")
	}
	k, path := testKernel(t), filepath.Join(t.TempDir(), "initrd")
	if err := WriteInitramfs(path, []byte("\x7fELF agent"), k, nil); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd := exec.Command(cpio, "-t", "--quiet")
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "dev\ndev/console\n") || !strings.HasSuffix(string(out), "sys\ntmp\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func FuzzCpio(f *testing.F) {
	f.Add("dev/null", []byte("x"))
	f.Add("../up", []byte(nil))
	f.Add("a\x00b", []byte("abcd"))
	f.Add("TRAILER!!!", []byte("abcde"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		var out bytes.Buffer
		c := &cpioWriter{w: &out}
		c.file(name, 0o644, data)
		c.dir("end")
		if c.close() != nil {
			return
		}
		e := readCpio(t, out.Bytes())
		if len(e) != 2 || e[0].name != name || e[0].data != string(data) || !filepath.IsLocal(name) {
			t.Fatalf("%q came back as %+v", name, e)
		}
	})
}
