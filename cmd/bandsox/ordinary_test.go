package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// ordinaryUID is a user without a name, a home or a group of note.
const ordinaryUID = 54321

// TestOrdinaryUser goes the main path without root: what runs as root starts
// bandsox as somebody else.
func TestOrdinaryUser(t *testing.T) {
	vmtest.NeedQEMU(t)
	k := vmKit(t)
	program, err := exec.LookPath("bandsox")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	l := &lab{state: filepath.Join(home, "state"), image: "dir:" + k.image}
	mine := filepath.Join(home, "bin", "bandsox") // where a user may look
	for _, c := range [][]string{
		{"mkdir", "-p", filepath.Dir(mine), l.state, filepath.Join(home, "tmp")},
		{"cp", "-a", k.kernels, filepath.Join(l.state, "kernels")},
		{"cp", program, mine},
		{"cp", k.agent, filepath.Join(home, "agent")},
		{"chmod", "-R", "u+rwX,go+rX", home, k.image},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", c, err, out)
		}
	}
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		as.Credential = &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}
		letThrough(t, home, k.image)
		if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", ordinaryUID, ordinaryUID), home).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v %s", err, out)
		}
	}
	bandsox := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		cmd := exec.Command(mine, args...)
		cmd.Env = []string{"HOME=" + home, "TMPDIR=" + filepath.Join(home, "tmp"), "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
			"BANDSOX_STORAGE=" + l.state, "BANDSOX_AGENT=" + filepath.Join(home, "agent"), "BANDSOX_NO_TEMPLATES=1"}
		cmd.Dir, cmd.SysProcAttr = home, as
		var out, errOut output
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err := cmd.Run()
		return out.String(), errOut.String(), exitOf(t, err)
	}
	if os.Geteuid() == 0 {
		cmd := exec.Command(mine, "version")
		cmd.SysProcAttr = as
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("needs a temporary directory that others may look into: %v %s", err, out)
		}
	}
	t.Cleanup(func() {
		for _, pid := range l.machines() {
			t.Errorf("a machine is left running: %d", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	for _, c := range []struct {
		args []string
		code int
		says string // on either stream
	}{
		{[]string{"doctor"}, 0, "qemu"},
		{[]string{"image", "pull", l.image}, 0, ""},
		{[]string{"image", "list"}, 0, l.image},
		{[]string{"run", l.image, "sh", "-c", "id -u; exit 3"}, 3, "0\n"},
		{[]string{"run", "--user", "nobody", l.image, "sh", "-c", "echo $(id -un) here"}, 0, "nobody here\n"},
		{[]string{"create", "--name", "box", l.image}, 0, ""},
		{[]string{"exec", "box", "sh", "-c", "echo kept >/root/f; mount"}, 0, "overlay"},
		{[]string{"cp", "box:/root/f", "-"}, 0, "kept\n"},
		{[]string{"stop", "box"}, 0, ""},
		{[]string{"start", "box"}, 0, ""},
		{[]string{"exec", "box", "cat", "/root/f"}, 0, "kept\n"},
		{[]string{"rm", "-f", "box"}, 0, ""},
		{[]string{"ps", "-a", "--json"}, 0, "[]"},
		{[]string{"cleanup"}, 0, "Nothing to clean up."},
		{[]string{"image", "rm", l.image}, 0, ""},
		{[]string{"serve", "--stop"}, 0, "Server stopped."},
	} {
		out, errOut, code := bandsox(c.args...)
		if code != c.code || !strings.Contains(out+errOut, c.says) {
			t.Errorf("bandsox %s: exit code %d, want %d and %q\n%s%s", strings.Join(c.args, " "), code, c.code, c.says, out, errOut)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(home, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("left in TMPDIR: %v %v", entries, err)
	}
	if entries, err := os.ReadDir(filepath.Join(l.state, "sandboxes")); err != nil || len(entries) > 0 {
		t.Errorf("left in the state directory: %v %v", entries, err)
	}
}

// letThrough opens the way to the test's temporary directories, whose parent
// is root's alone.
func letThrough(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
