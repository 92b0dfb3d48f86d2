package kernel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// buildInit builds testdata/init for a guest.
func buildInit(t *testing.T) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs go: not in PATH")
	}
	out := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the guest's init: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBoot starts Debian's kernel with QEMU's microvm, and has it load the
// modules of our initramfs in our order.
func TestBoot(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skip("needs qemu-system-x86_64 on amd64")
	}
	_, k := realInstall(t, "debian")
	if !k.PVH {
		t.Fatal("Debian's vmlinux has no PVH note")
	}
	dir, agent := t.TempDir(), buildInit(t)
	initrd, disk := filepath.Join(dir, "initrd"), filepath.Join(dir, "disk")
	start := time.Now()
	all := append(append([]string{"virtio_pci", "virtio_rng", "virtio_balloon", "vmw_vsock_virtio_transport"}, MicroVM...), Net...)
	if err := WriteInitramfs(initrd, agent, k, all); err != nil {
		t.Fatal(err)
	}
	t.Logf("initramfs with every module in %v", time.Since(start))
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-M", "microvm,acpi=on,rtc=on", "-accel", "tcg", "-m", "256", "-no-reboot",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-kernel", k.Vmlinux, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests tsc_early_khz="+strconv.Itoa(hostKHz(t)),
		"-drive", "id=d,if=none,format=raw,file="+disk, "-device", "virtio-blk-device,drive=d",
		"-device", "virtio-serial-device")
	start = time.Now()
	out, err := cmd.CombinedOutput()
	t.Logf("booted and gone in %v", time.Since(start))
	if !strings.Contains(string(out), "TEST ok: "+k.Version) {
		t.Fatalf("the guest didn't load its modules: %v\n%s", err, out)
	}
}

// hostKHz is the host's TSC rate, which a microvm has no clock to find out by.
func hostKHz(t *testing.T) int {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip("needs /proc/cpuinfo: ", err)
	}
	m := regexp.MustCompile(`(?m)^cpu MHz\s*:\s*(\d+)\.(\d{3})`).FindSubmatch(b)
	if m == nil {
		t.Skip("needs the CPU's clock rate: not in /proc/cpuinfo")
	}
	khz, _ := strconv.Atoi(string(m[1]) + string(m[2]))
	return khz
}
