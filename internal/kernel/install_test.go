package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

// bucket serves objects and lists them as S3 does.
func bucket(t *testing.T, objects map[string]string) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key := strings.TrimPrefix(r.URL.Path, "/"); key != "" {
			b, ok := objects[key]
			if !ok {
				http.NotFound(w, r)
				return
			}
			w.Write([]byte(b))
			return
		}
		q := r.URL.Query()
		seen := map[string]bool{}
		var all []string
		for key := range objects {
			rest, ok := strings.CutPrefix(key, q.Get("prefix"))
			if !ok {
				continue
			}
			item := "<Contents><Key>" + key + "</Key></Contents>"
			if dir, _, ok := strings.Cut(rest, "/"); ok && q.Get("delimiter") == "/" {
				item = "<CommonPrefixes><Prefix>" + q.Get("prefix") + dir + "/</Prefix></CommonPrefixes>"
			}
			if !seen[item] {
				all = append(all, item)
			}
			seen[item] = true
		}
		// One item a page, so that paging is needed.
		n := 0
		fmt.Sscan(q.Get("continuation-token"), &n)
		fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
		slices.Sort(all)
		if n < len(all) {
			fmt.Fprint(w, all[n])
		}
		if n+1 < len(all) {
			fmt.Fprintf(w, "<NextContinuationToken>%d</NextContinuationToken>", n+1)
		}
		fmt.Fprint(w, "</ListBucketResult>")
	}))
	t.Cleanup(srv.Close)
	return srv
}

const fcConfig = "CONFIG_PVH=y\nCONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_VSOCKETS=y\nCONFIG_OVERLAY_FS=y\nCONFIG_EXT4_FS=y\n"

func TestFirecracker(t *testing.T) {
	t.Parallel()
	kernel := func(v string) string { return string(elfKernel{version: v}.bytes()) }
	srv := bucket(t, map[string]string{
		"firecracker-ci/v1.10/x86_64/vmlinux-6.1.102":                     kernel("6.1.102"),
		"firecracker-ci/20250101-aaaaaaa-0/x86_64/vmlinux-6.1.9":          kernel("6.1.9"),
		"firecracker-ci/20260101-bbbbbbb-0/x86_64/vmlinux-6.1.9":          kernel("6.1.9"),
		"firecracker-ci/20260101-bbbbbbb-0/x86_64/vmlinux-6.1.30":         kernel("6.1.30"),
		"firecracker-ci/20260101-bbbbbbb-0/x86_64/vmlinux-6.1.30.config":  fcConfig,
		"firecracker-ci/20260101-bbbbbbb-0/x86_64/vmlinux-5.10.200":       kernel("5.10.200"),
		"firecracker-ci/20260101-bbbbbbb-0/x86_64/vmlinux-6.1.31-no-acpi": kernel("6.1.31"),
		"firecracker-ci/20260201-ccccccc-0/aarch64/vmlinux-6.1.40":        "arm64",
		"firecracker-ci/zzz/x86_64/vmlinux-9.9.9":                         kernel("9.9.9"),
	})
	o := InstallOptions{Search: []string{"firecracker"}, FirecrackerURL: srv.URL, Arch: "amd64"}
	k, err := Install(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	if k.Version != "6.1.30" || !strings.HasSuffix(k.Source, "/20260101-bbbbbbb-0/x86_64/vmlinux-6.1.30") || !k.PVH || len(k.Load) != 0 {
		t.Errorf("installed %+v", k)
	}
	if k.Drivers["virtio_blk"] != Builtin || k.Drivers["virtio_console"] != Missing {
		t.Errorf("its drivers: %v", k.Drivers)
	}
	// With everything built in, the initramfs carries no module.
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := WriteInitramfs(initrd, []byte("\x7fELF"), k, []string{"virtio_blk", "vmw_vsock_virtio_transport", "overlay"}); err != nil {
		t.Error(err)
	}
	// QEMU speaks to its agent through virtio_console.
	o.Require = []string{"virtio_console"}
	if _, err := Install(t.Context(), t.TempDir(), o); err == nil || !strings.Contains(err.Error(), "lacks virtio_console") {
		t.Errorf("for QEMU: %v", err)
	}
}

// TestFallsBack: each source's reason is told when none has a kernel, and the
// next one is asked when one has none.
func TestFallsBack(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	o := InstallOptions{Search: []string{"firecracker", "debian"}, FirecrackerURL: m.URL, Arch: "amd64",
		Mirror: m.URL + "/debian", Suite: "bookworm", Keyring: m.keyring}
	dir := t.TempDir()
	_, err := Install(t.Context(), dir, o)
	if wire.CodeOf(err) != wire.Unavailable || hintOf(err) == "" {
		t.Errorf("no source: %v", err)
	}
	for _, part := range []string{"firecracker: listing", "debian: downloading", "404"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q isn't in %v", part, err)
		}
	}
	if _, err := Open(dir); wire.CodeOf(err) != wire.NotFound || hintOf(err) != "bandsox init" {
		t.Errorf("opened nothing: %v", err)
	}
	m.add(t, "/debian", "bookworm", "6.1.9")
	if k, err := Install(t.Context(), dir, o); err != nil || k.Version != "6.1.9-cloud-amd64" {
		t.Errorf("installed %+v, %v", k, err)
	}
	o.Search, o.Force = []string{"floppy"}, true
	if _, err := Install(t.Context(), dir, o); wire.CodeOf(err) != wire.Invalid {
		t.Errorf("an unknown source: %v", err)
	}
}

func TestInstallGiven(t *testing.T) {
	t.Parallel()
	k1, k2 := elfKernel{version: "6.1.1"}.bytes(), elfKernel{version: "6.1.2"}.bytes()
	path := put(t, bzImage(gz(k1), len(k1)))
	srv := httptest.NewServer(&flaky{body: k2, etag: `"a"`, cuts: 1, after: 100})
	defer srv.Close()
	dir := t.TempDir()
	first, err := Install(t.Context(), dir, InstallOptions{Source: path, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if first.Version != "6.1.1" || first.Source != path || first.Drivers["ext4"] != Unknown {
		t.Errorf("installed %+v", first)
	}
	second, err := Install(t.Context(), dir, InstallOptions{Source: srv.URL + "/vmlinux?token=secret", SHA256: sum(k2), Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if second.Version != "6.1.2" || strings.Contains(second.Source, "secret") {
		t.Errorf("installed %+v", second)
	}
	now, err := Open(dir)
	if err != nil || now.Digest != second.Digest {
		t.Errorf("opened %+v, %v", now, err)
	}
	if first.Verify() != nil {
		t.Error("the first kernel is gone: sandboxes may still need it")
	}
	out := filepath.Join(t.TempDir(), "a", "vmlinux")
	if err := now.Export(out); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(out); string(b) != string(k2) {
		t.Error("the exported kernel is another")
	}
	// Found again by its source: nothing is fetched.
	srv.Close()
	if k, err := Install(t.Context(), dir, InstallOptions{Source: srv.URL + "/vmlinux?token=other", Arch: "amd64"}); err != nil || k.Digest != second.Digest {
		t.Errorf("a second time: %v", err)
	}
	for name, o := range map[string]InstallOptions{
		"wrong sum":   {Source: path, SHA256: sum(nil)},
		"no file":     {Source: path + "x"},
		"a page":      {Source: put(t, []byte("<html>"))},
		"a directory": {Source: dir},
		"wrong arch":  {Source: path, Arch: "arm64"},
		"no modules":  {Source: path, Modules: path},
		"bad machine": {Source: path, Arch: "mips"},
		"scheme":      {Source: "ftp://x/y"},
	} {
		if o.Arch == "" {
			o.Arch = "amd64"
		}
		o.Force = true
		_, err := Install(t.Context(), dir, o)
		if code := wire.CodeOf(err); code != wire.Invalid && code != wire.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now, err := Open(dir); err != nil || now.Digest != second.Digest {
		t.Errorf("after failures: %v", err)
	}
}

// TestInstallLacking: a kernel without what every sandbox needs is refused.
func TestInstallLacking(t *testing.T) {
	k := elfKernel{version: "6.1.1", config: "CONFIG_EXT4_FS=y\nCONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_CONSOLE=y\n"}.bytes()
	_, err := Install(t.Context(), t.TempDir(), InstallOptions{Source: put(t, k), Arch: "amd64"})
	if wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), "lacks overlay") {
		t.Errorf("installed without overlay: %v", err)
	}
}

// TestOpenDamaged: whatever happens to the files, Open tells, and a forced
// installation mends it.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	deb := put(t, debKernel(t, "6.1.0", "gzip"))
	for name, damage := range map[string]func(k *Kernel) error{
		"truncated vmlinux": func(k *Kernel) error { return os.Truncate(k.Vmlinux, 100) },
		"no vmlinux":        func(k *Kernel) error { return os.Remove(k.Vmlinux) },
		"truncated module":  func(k *Kernel) error { return os.Truncate(filepath.Join(k.Modules, "overlay.ko"), 0) },
		"truncated meta":    func(k *Kernel) error { return os.Truncate(filepath.Join(k.Dir, metaFile), 20) },
		"empty meta":        func(k *Kernel) error { return os.WriteFile(filepath.Join(k.Dir, metaFile), []byte("{}"), 0o644) },
		"nothing left":      func(k *Kernel) error { return os.RemoveAll(k.Dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			k, err := Install(t.Context(), dir, InstallOptions{Source: deb, Arch: "amd64"})
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(k); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); err == nil || hintOf(err) != "bandsox init --force" {
				t.Errorf("opened: %v", err)
			}
			if _, err := Install(t.Context(), dir, InstallOptions{Source: deb, Arch: "amd64"}); err != nil {
				t.Fatal(err)
			}
			if k, err := Open(dir); err != nil || k.Verify() != nil {
				t.Errorf("after mending: %v", err)
			}
		})
	}
	dir := t.TempDir()
	k, err := Install(t.Context(), dir, InstallOptions{Source: deb, Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := os.OpenFile(k.Vmlinux, os.O_WRONLY, 0)
	f.WriteAt([]byte("x"), 300)
	f.Close()
	if err := k.Verify(); err == nil {
		t.Error("a changed byte isn't found by Verify")
	}
	if k, err := Install(t.Context(), dir, InstallOptions{Source: deb, Arch: "amd64", Force: true}); err != nil || k.Verify() != nil {
		t.Errorf("forced: %v", err)
	}
}

// TestInstallSingleFlight: many at once fetch once, and what killed ones left
// is swept.
func TestInstallSingleFlight(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int32
	body := debKernel(t, "6.1.0", "gzip")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		w.Write(body)
	}))
	defer srv.Close()
	dir := t.TempDir()
	left := filepath.Join(dir, stagePattern+"apt-123-kernel")
	if err := os.MkdirAll(filepath.Join(left, "modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for range 5 {
		go func() {
			_, err := Install(t.Context(), dir, InstallOptions{Source: srv.URL + "/k.deb", Arch: "amd64"})
			done <- err
		}()
	}
	for range 5 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("a killed installation's files are still there")
	}
}

func TestInstallCancelled(t *testing.T) {
	quit := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(quit)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Install(ctx, dir, InstallOptions{Source: srv.URL, Arch: "amd64"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled installation: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, stagePattern+"*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// TestInstallDiskFull: it is told as such, nothing is left, and no other
// source is asked to fill the disk too.
func TestInstallDiskFull(t *testing.T) {
	dir := smallDisk(t)
	big := elfKernel{version: "6.1.30", pad: 3 << 20}.bytes()
	key := "firecracker-ci/20260101-b-0/x86_64/vmlinux-6.1.30"
	srv := bucket(t, map[string]string{key: string(big), key + ".config": fcConfig})
	given := InstallOptions{Source: put(t, gz(big)), Arch: "amd64"}
	search := InstallOptions{Search: []string{"firecracker", "debian"}, FirecrackerURL: srv.URL, Mirror: srv.URL + "/debian", Arch: "amd64"}
	for _, o := range []InstallOptions{given, search} {
		_, err := Install(t.Context(), dir, o)
		if wire.CodeOf(err) != wire.Exhausted || strings.Contains(err.Error(), "debian") {
			t.Errorf("a full disk: %v", err)
		}
		if _, err := Open(dir); wire.CodeOf(err) != wire.NotFound {
			t.Errorf("opened: %v", err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, downloadDir, "*"))
	stages, _ := filepath.Glob(filepath.Join(dir, stagePattern+"*"))
	if len(left)+len(stages) > 0 {
		t.Errorf("left behind: %v %v", left, stages)
	}
}
