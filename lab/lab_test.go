package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/agentbin"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/store"
)

// TestMain is the lab itself when a test starts this program again.
func TestMain(m *testing.M) {
	if os.Getenv("BANDSOX_LAB_SELF") != "" {
		main()
	}
	os.Exit(m.Run())
}

// needs skips t where the lab can't run, or would take minutes to make its
// machine first.
func needs(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an emulated machine: left out of -short")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64: the lab's machine has AMD's virtualisation")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64: not in PATH")
	}
	if _, ok := agentbin.Agent("amd64"); !ok {
		t.Skip("needs the embedded agent: built by make, not by go test alone")
	}
	c, err := openCache()
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(c.machine()); err != nil {
		t.Skipf("needs the lab's root file system in %s: make lab RUN=true makes it", c.dir)
	}
}

func self(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BANDSOX_LAB_SELF=1")
	return cmd
}

// TestCommand: a command in the lab has what it was given and /dev/kvm, its
// output comes apart and its exit code through.
func TestCommand(t *testing.T) {
	needs(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a,b"), []byte("brought along\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := self("-add", "some/dir="+dir, "-env", "SAID=so", `test -c /dev/kvm && cat /lab/some/dir/a,b - && echo $SAID >&2; exit 7`)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("input\n"), &out, &errs
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("%v, want the command's exit code, 7", err)
	}
	if out.String() != "brought along\ninput\n" || !strings.HasSuffix(errs.String(), "so\n") {
		t.Errorf("output %q, errors %q", out.String(), errs.String())
	}
}

// TestKilled: QEMU doesn't outlive a lab that is killed, and what it had made is
// removed by the next.
func TestKilled(t *testing.T) {
	needs(t)
	lab := self("sleep 1000")
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	for end := time.Now().Add(2 * time.Minute); child == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		child = qemuOf(lab.Process.Pid)
	}
	lab.Process.Kill()
	lab.Wait()
	if child == 0 {
		t.Fatal("it started no QEMU")
	}
	for end := time.Now().Add(2 * time.Minute); unix.Kill(child, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("QEMU outlived it")
		}
	}
	c, err := openCache()
	if err != nil {
		t.Fatal(err)
	}
	c.sweep()
	left, _ := filepath.Glob(filepath.Join(c.dir, scratchPrefix+"*"))
	for _, dir := range left { // another lab may be at work
		if f, err := os.Open(dir); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				t.Errorf("%s was left", dir)
			}
			f.Close()
		}
	}
}

// qemuOf is the QEMU that a process started, or 0.
func qemuOf(parent int) int {
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(parent) + "/task/*/children")
	for _, path := range tasks {
		b, _ := os.ReadFile(path)
		for _, f := range strings.Fields(string(b)) {
			comm, _ := os.ReadFile("/proc/" + f + "/comm")
			if strings.HasPrefix(string(comm), "qemu-system") {
				pid, _ := strconv.Atoi(f)
				return pid
			}
		}
	}
	return 0
}

func TestPackNamesWhatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	err := pack(t.Context(), filepath.Join(t.TempDir(), "out"), []file{{"x", path}})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("packing what isn't there: %v", err)
	}
}

func TestTakeKernel(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{
		"boot/vmlinuz-6.1.0", "usr/lib/modules/6.1.0/kernel/virt/kvm.ko", "usr/lib/modules/6.1.0/modules.dep",
		"usr/lib/modules/6.1.0/kernel/README", "etc/modules.conf",
	} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}), one(w.Write([]byte("x")))); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	dir := t.TempDir()
	if err := takeKernel(&b, dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, pattern := range []string{"*", "modules/*"} {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, p := range paths {
			rel, _ := filepath.Rel(dir, p)
			got = append(got, rel)
		}
	}
	if want := "modules vmlinuz modules/kvm.ko modules/modules.dep"; strings.Join(got, " ") != want {
		t.Errorf("took %q, want %s", got, want)
	}
}

func one(_ int, err error) error { return err }

// TestFill: the lab's state directory knows its base by name.
func TestFill(t *testing.T) {
	host, kernels := store.Layout(t.TempDir()), t.TempDir()
	if err := os.MkdirAll(host.Bases(), 0o700); err != nil {
		t.Fatal(err)
	}
	if b := findBase(host); b.path != "" {
		t.Errorf("a base where there is none: %+v", b)
	}
	digest := "sha256:" + strings.Repeat("ab", 32)
	for d, ref := range map[string]string{digest: "bandsox/base:bookworm", "sha256:" + strings.Repeat("cd", 32): "alpine:latest"} {
		if err := errors.Join(
			disk.Create(t.Context(), host.Base(d), disk.MinSizeMiB),
			os.WriteFile(host.BaseInfo(d), []byte(`{"digest":"`+d+`","refs":["`+ref+`"]}`), 0o600),
		); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := fill(t.Context(), dir, kernels, findBase(host)); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	images, err := s.Images(t.Context())
	if err != nil || len(images) != 1 || images[0].Ref != "bandsox/base:bookworm" || images[0].Digest != digest {
		t.Errorf("images %+v, %v", images, err)
	}
	if _, err := os.Stat(s.Base(digest)); err != nil {
		t.Error(err)
	}
}
