package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// busyboxCommands are those that the tests' scripts use.
const busyboxCommands = "sh cat echo sleep id hostname kill yes sync tar sha256sum head wc dd ls true false mount df rm mkdir seq stty"

// Busybox makes a root file system of busybox and little else, and returns its
// directory. It skips t where there is no static busybox.
func Busybox(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox: apt-get install busybox-static")
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "/ld-linux") || strings.Contains(string(b), "/ld-musl") {
		t.Skip("needs a static busybox: apt-get install busybox-static")
	}
	root := t.TempDir()
	for _, dir := range []string{"bin", "etc", "root", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"bin/busybox": string(b),
		"etc/passwd":  "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
		"etc/group":   "root:x:0:\nnogroup:x:65534:\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name := range strings.FieldsSeq(busyboxCommands) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// NeedQEMU skips t where there is no QEMU.
func NeedQEMU(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs virtual machines: left out of -short")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs QEMU: apt-get install qemu-system-x86")
	}
}
