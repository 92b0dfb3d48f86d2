package kernel

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// realInstall installs from a real source, and skips when it can't be reached.
func realInstall(t *testing.T, source string) (string, *Kernel) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the network: left out of -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	start := time.Now()
	k, err := Install(ctx, dir, InstallOptions{Search: []string{source}, Mirror: realMirror(), Require: []string{"virtio_console"}})
	if code := wire.CodeOf(err); err != nil && (code == wire.Unavailable || code == wire.NotFound) {
		t.Skipf("needs %s's kernel: %v", source, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %s in %v: %d bytes, pvh %v, %v", source, k.Source, time.Since(start), k.Size, k.PVH, k.Drivers)
	for _, m := range k.Load {
		t.Logf("  %-40s %7d %v", m.File, m.Size, m.Deps)
	}
	return dir, k
}

// realMirror is the mirror that is named for the tests, else the host's own.
func realMirror() string {
	if m := os.Getenv("BANDSOX_DEBIAN_MIRROR"); m != "" {
		return m
	}
	out, _ := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

func TestRealApt(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("needs apt-get: not a Debian host")
	}
	checkReal(t, "apt")
}

func TestRealDebianMirror(t *testing.T) { checkReal(t, "debian") }

func TestRealFirecracker(t *testing.T) { checkReal(t, "firecracker") }

func checkReal(t *testing.T, source string) {
	dir, k := realInstall(t, source)
	if err := k.Verify(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != k.Digest {
		t.Fatalf("opened %s, installed %s", again.Digest, k.Digest)
	}
	left, _ := os.ReadDir(dir)
	for _, e := range left {
		switch e.Name() {
		case currentLink, lockFile, k.Digest[7:19]:
		default:
			t.Errorf("%s was left behind", e.Name())
		}
	}
}
