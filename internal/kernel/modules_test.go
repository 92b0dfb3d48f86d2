package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// moduleDir is a /lib/modules/<version> with files of the given contents.
func moduleDir(t testing.TB, files map[string][]byte) *moduleTree {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := readModuleTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func names(mods []Module) []string {
	var out []string
	for _, m := range mods {
		out = append(out, m.Name)
	}
	return out
}

func TestCollect(t *testing.T) {
	net := moduleELF("depends=net-failover,ring", "softdep=pre: crc32c speed-up post: later")
	tree := moduleDir(t, map[string][]byte{
		"kernel/net/virtio_net.ko.xz":   compress(t, "xz", net),
		"kernel/net/net_failover.ko":    moduleELF("depends=failover"),
		"kernel/net/failover.ko.gz":     gz(moduleELF("depends=")),
		"kernel/virtio/ring.ko.zst":     compress(t, "zstd", moduleELF("depends=inside")),
		"kernel/lib/speed-up.ko":        moduleELF("depends="),
		"kernel/lib/later.ko":           moduleELF("depends="),
		"kernel/lib/unasked.ko":         []byte("damaged"),
		"modules.builtin":               []byte("kernel/lib/inside.ko\n"),
		"kernel/lib/not a module.ko":    nil,
		"kernel/lib/circle_a.ko":        moduleELF("depends=circle_b"),
		"kernel/lib/circle_b.ko":        moduleELF("depends=circle_a"),
		"kernel/lib/needy.ko":           moduleELF("depends=nowhere"),
		"kernel/lib/damaged.ko":         []byte("\x7fELF and then nothing"),
		"kernel/lib/damaged_xz.ko.xz":   []byte("\xfd7zXZ\x00 and then nothing"),
		"kernel/lib/without_modinfo.ko": elfKernel{}.bytes(),
	})
	dst := t.TempDir()
	mods, err := tree.collect(dst, []string{"virtio_net", "inside", "absent"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"failover", "net_failover", "ring", "speed_up", "virtio_net"}
	if diff := cmp.Diff(want, names(mods)); diff != "" {
		t.Error(diff)
	}
	if got, err := os.ReadFile(filepath.Join(dst, "virtio_net.ko")); err != nil || string(got) != string(net) {
		t.Errorf("virtio_net.ko isn't what was compressed: %v", err)
	}
	if mods, err := tree.collect(t.TempDir(), []string{"circle_a"}); err != nil || len(mods) != 2 {
		t.Errorf("a circle: %v, %v", names(mods), err)
	}
	for _, bad := range []string{"needy", "damaged", "damaged_xz", "without_modinfo"} {
		if _, err := tree.collect(t.TempDir(), []string{bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestModulesDep: where depmod has run, its word counts.
func TestModulesDep(t *testing.T) {
	tree := moduleDir(t, map[string][]byte{
		"kernel/a.ko": moduleELF("depends="),
		"kernel/b.ko": moduleELF("depends="),
		"kernel/c.ko": moduleELF("depends="),
		"modules.dep": []byte("kernel/a.ko: kernel/c.ko kernel/b.ko\nkernel/c.ko: kernel/b.ko\nkernel/b.ko:\n"),
	})
	mods, err := tree.collect(t.TempDir(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "c", "a"}, names(mods)); diff != "" {
		t.Error(diff)
	}
}

func TestWhere(t *testing.T) {
	tree := &moduleTree{builtin: map[string]bool{"ext4": true}}
	at := where(tree, []Module{{Name: "overlay"}}, []byte("CONFIG_PACKET=y\nCONFIG_VIRTIO_NET=m\n"))
	for name, want := range map[string]string{"ext4": Builtin, "overlay": Loaded, "af_packet": Builtin, "virtio_net": Missing, "virtio_blk": Missing} {
		if at[name] != want {
			t.Errorf("%s is %s, want %s", name, at[name], want)
		}
	}
	if at := where(nil, nil, nil); at["virtio_blk"] != Unknown {
		t.Errorf("a kernel that says nothing has virtio_blk %s", at["virtio_blk"])
	}
	if err := lacking(where(nil, nil, nil), []string{"virtio_net"}, false); err != nil {
		t.Errorf("what isn't known can't be missing: %v", err)
	}
}

func FuzzModulesDep(f *testing.F) {
	f.Add("kernel/a.ko: kernel/b.ko.xz\nkernel/b.ko.xz:\n")
	f.Add("../../etc/a.ko: ../b.ko\n:\n::\na.ko:a.ko")
	f.Fuzz(func(t *testing.T, s string) {
		deps, err := parseModulesDep(strings.NewReader(s))
		if err != nil {
			return
		}
		for name, needs := range deps {
			for _, n := range append(slices.Clone(needs), name) {
				if n == "" || strings.ContainsAny(n, "/.-") {
					t.Fatalf("%q became the module %q", s, n)
				}
			}
		}
	})
}

func FuzzModinfo(f *testing.F) {
	f.Add(moduleELF("depends=a,b", "softdep=pre: c"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _ = (&moduleTree{}).needs("x", b) })
}
