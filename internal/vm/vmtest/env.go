package vmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/vm"
)

// Env is what the contract suite boots machines from. The process fake needs
// but Tool.
type Env struct {
	Kernel, Initrd, Base string
	Scratch              string // another base: the tool and nothing else, not even a directory
	Tool                 string // the program of ./tool, by its path in a machine
	Can                  Can
}

// Can is what a driver's machines can do, beyond what all can.
type Can struct {
	Kernel  bool // boot a kernel, and panic
	Drives  bool // keep files on them
	Console bool // print to /dev/console
}

// Everything is what a virtual machine can do.
var Everything = Can{Kernel: true, Drives: true, Console: true}

// Timeout bounds whatever a test waits for: far more than a machine on a busy
// host needs.
const Timeout = 4 * time.Minute

// Kit makes what a virtual machine needs: the agent and the tool are built, a
// kernel is installed once under BANDSOX_TEST_CACHE (the user's cache directory
// if it is not set). It skips t where that can't be. modules are those of the
// driver's traits.
func Kit(t testing.TB, modules ...string) Env {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a virtual machine: left out of -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	e := Env{
		Initrd: filepath.Join(dir, "initrd"), Base: filepath.Join(dir, "base.ext4"),
		Scratch: filepath.Join(dir, "scratch.ext4"), Tool: "/tool", Can: Everything,
	}
	k, err := kernel.Open(Kernels(t))
	if err != nil {
		t.Fatal(err)
	}
	e.Kernel = k.Vmlinux
	agent := build(t, "cmd/bandsox-agent")
	if err := kernel.WriteInitramfs(e.Initrd, agent, k, modules); err != nil {
		t.Fatal(err)
	}
	tool := build(t, "internal/vm/vmtest/tool")
	buildBase(ctx, t, e.Scratch, tool)
	buildBase(ctx, t, e.Base, tool,
		&tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755},
		&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777})
	return e
}

// buildBase makes a base of the tool and dirs.
func buildBase(ctx context.Context, t testing.TB, path string, tool []byte, dirs ...*tar.Header) {
	t.Helper()
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for _, h := range append(dirs, &tar.Header{Typeflag: tar.TypeReg, Name: "tool", Mode: 0o755, Size: int64(len(tool))}) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(tool); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.BuildBase(ctx, path, &files, disk.BaseOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Processes is the Env of the process fake.
func Processes(t testing.TB) Env {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, build(t, "internal/vm/vmtest/tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Env{Tool: path}
}

func cacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("BANDSOX_TEST_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a cache directory: set BANDSOX_TEST_CACHE: %v", err)
	}
	return filepath.Join(dir, "bandsox-test")
}

// built are the programs that are compiled: linking one takes a second, and a
// package may have thirty tests of machines.
var built struct {
	sync.Mutex
	programs map[string][]byte
}

// build compiles a program of this module for a guest, or takes it from
// BANDSOX_TEST_PROGRAMS: the lab has no Go.
func build(t testing.TB, dir string) []byte {
	t.Helper()
	if from := os.Getenv("BANDSOX_TEST_PROGRAMS"); from != "" {
		b, err := os.ReadFile(filepath.Join(from, filepath.Base(dir)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	built.Lock()
	defer built.Unlock()
	if b := built.programs[dir]; b != nil {
		return b
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs go: not in PATH")
	}
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command(goTool, "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/bandsox/bandsox/"+dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", dir, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if built.programs == nil {
		built.programs = map[string][]byte{}
	}
	built.programs[dir] = b
	return b
}

// Spec is a machine of one CPU and 256 MiB in dir, which is made.
func (e Env) Spec(t testing.TB, id, dir string) vm.Spec {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := vm.Spec{ID: id, Dir: dir, VCPU: 1, MemMiB: 256, Kernel: e.Kernel, Initrd: e.Initrd}
	if e.Can.Drives {
		path := filepath.Join(dir, "disk.ext4")
		if err := disk.Create(t.Context(), path, 1024); err != nil {
			t.Fatal(err)
		}
		s.Drives = []vm.Drive{{Path: e.Base, ReadOnly: true}, {Path: path}}
	}
	return s
}
