package bandsox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// realMachines readies a state directory for QEMU and returns it with an image.
func realMachines(t *testing.T, dir string) (cfg Config, image string) {
	t.Helper()
	vmtest.NeedQEMU(t)
	image = "dir:" + vmtest.Busybox(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(vmtest.Kernels(t), filepath.Join(dir, "kernels")); err != nil {
		t.Fatal(err)
	}
	return Config{Storage: dir, Agent: vmtest.Program(t, "cmd/bandsox-agent"), Log: discardLog(), NoTemplates: true}, image
}

func openReal(t *testing.T, cfg Config) *Manager {
	t.Helper()
	m, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		shut(t, m)
		if found, err := m.driver.Find(context.Background(), m.Storage()); err != nil || len(found) > 0 {
			t.Errorf("machines left running: %v %v", found, err)
		}
	})
	return m
}

// TestDiskKeepsWhatWasFlushed kills a machine at once, looks at its disk, and
// boots it again.
func TestDiskKeepsWhatWasFlushed(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	sb := create(t, m, CreateOptions{Image: image, MemMiB: 128})
	if err := sb.Shell("mkdir /data && for i in $(seq 50); do echo $i >/data/$i; done; sync").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sb.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := sb.Shell("ls /data | wc -l; cat /data/50").Output(t.Context())
	if err != nil || string(out) != "50\n50\n" {
		t.Errorf("after a power cut: %q %v", out, err)
	}
	if err := sb.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	info, _ := sb.Info(t.Context())
	for _, path := range []string{m.store.Disk(sb.ID()), m.store.Base(info.Digest)} {
		if err := disk.Check(t.Context(), path); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
	console, err := sb.Console(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	if b, _ := io.ReadAll(console); len(b) == 0 {
		t.Error("the console of a stopped sandbox is lost")
	}
}

func TestQEMUKilledWhileACommandStreams(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	killWhileStreaming(t, create(t, m, CreateOptions{Image: image}))
}

// TestEightAtOnce makes eight sandboxes of one image at once, on however few cores.
func TestEightAtOnce(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var out bytes.Buffer
			_, err := m.Run(t.Context(), RunOptions{CreateOptions: CreateOptions{Image: image, Name: fmt.Sprintf("n%d", i), MemMiB: 128},
				Args: []string{"hostname"}, Prepare: func(c *Cmd) { c.Stdout = &out }})
			if err != nil || out.String() != fmt.Sprintf("n%d\n", i) {
				t.Errorf("%d: %q %v", i, out.String(), err)
			}
		})
	}
	wg.Wait()
	bases, _ := filepath.Glob(filepath.Join(cfg.Storage, "bases", "*.ext4"))
	if len(bases) != 1 {
		t.Errorf("bases: %v", bases)
	}
}

func TestTruncatedKernel(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	kernels := filepath.Join(cfg.Storage, "kernels")
	original, err := os.Readlink(kernels)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(kernels)
	if out, err := exec.Command("cp", "-a", original, kernels).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := openReal(t, cfg)
	art, err := m.artifact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(art.kernel, 1<<20); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := m.Create(t.Context(), CreateOptions{Image: image}); !errors.As(err, &e) || !strings.Contains(e.Hint, "bandsox init --force") {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, cfg.Storage)
}

func TestNoQEMU(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	t.Setenv("PATH", t.TempDir())
	var e *Error
	if _, err := m.Create(t.Context(), CreateOptions{Image: image}); !errors.As(err, &e) || e.Code != CodeUnavailable || !strings.Contains(e.Hint, "apt-get install") {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, cfg.Storage)
}

// smallDisk is a file system of its own of so many MiB.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting: %v", err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// TestHostDiskFull fills the host's disk while a base is built and while a
// program runs: both end with an error, and what was there is still there.
func TestHostDiskFull(t *testing.T) {
	dir := smallDisk(t, 80)
	cfg, image := realMachines(t, dir)
	cfg.Shared = true // as commands are
	m := openReal(t, cfg)
	big := t.TempDir()
	junk := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for i := range 80 {
		if err := os.WriteFile(filepath.Join(big, fmt.Sprint(i)), junk, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Create(t.Context(), CreateOptions{Image: "dir:" + big}); !errors.Is(err, ErrExhausted) {
		t.Errorf("a base larger than the disk: %v", err)
	}
	nothingLeft(t, dir)

	sb := create(t, m, CreateOptions{Image: image, MemMiB: 128})
	pad := filepath.Join(dir, "pad") // room to make later
	if err := os.WriteFile(pad, make([]byte, 16<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	err := sb.Shell("dd if=/dev/urandom of=/big bs=1M count=60 conv=fsync").Run(t.Context())
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("writing more than the host has: %v", err)
	}
	if err := sb.Command("true").Run(t.Context()); !errors.Is(err, ErrExhausted) {
		t.Errorf("a command in a halted sandbox: %v", err)
	}
	if r, err := sb.Console(t.Context()); err != nil {
		t.Errorf("the console on a full disk: %v", err)
	} else {
		r.Close()
	}
	// Another manager, as a command line is, gets in and can make room.
	other, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("opening on a full disk: %v", err)
	}
	if _, err := other.PruneImages(t.Context(), true); err != nil {
		t.Errorf("pruning on a full disk: %v", err)
	}
	other.Close()
	os.Remove(pad)
	if err := sb.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nothing was lost, not even the program that was writing.
	eventually(t, func() bool {
		out, err := sb.Shell("sync; wc -c </big").Output(t.Context())
		return err == nil && strings.TrimSpace(string(out)) == fmt.Sprint(60<<20)
	})
}
