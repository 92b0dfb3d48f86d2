package kernel

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// TestInstallChild installs, in a process that TestInstallKilled kills.
func TestInstallChild(t *testing.T) {
	dir := os.Getenv("BANDSOX_TEST_KERNELS")
	if dir == "" {
		t.Skip("needs TestInstallKilled: it is that test's other half")
	}
	for range 1000 {
		if _, err := Install(t.Context(), dir, InstallOptions{Source: os.Getenv("BANDSOX_TEST_DEB"), Arch: "amd64", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInstallKilled: killed at any instruction, an installation leaves a whole
// kernel or a clear error, and the next one works and leaves nothing behind.
func TestInstallKilled(t *testing.T) {
	t.Parallel()
	rounds := 30
	if testing.Short() {
		rounds = 3
	}
	deb, dir := put(t, debKernel(t, "6.1.0", "gzip")), t.TempDir()
	for i := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestInstallChild$")
		cmd.Env = append(os.Environ(), "BANDSOX_TEST_KERNELS="+dir, "BANDSOX_TEST_DEB="+deb)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+i*7) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		k, err := Open(dir)
		switch {
		case err == nil && k.Verify() != nil:
			t.Fatalf("round %d: opened a kernel that isn't whole: %v", i, k.Verify())
		case err != nil && (hintOf(err) == "" || wire.CodeOf(err) == wire.Internal):
			t.Fatalf("round %d: %v", i, err)
		}
	}
	k, err := Install(t.Context(), dir, InstallOptions{Source: deb, Arch: "amd64", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 { // the kernel, current and lock
		t.Errorf("left behind: %v", left)
	}
	if err := k.Verify(); err != nil {
		t.Fatal(err)
	}
}
