package firecracker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// standInName begins the name by which this test program is a Firecracker: the
// stand-in as a process. Its version follows.
const standInName = "standin-firecracker-"

func TestMain(m *testing.M) {
	if v, ok := strings.CutPrefix(filepath.Base(os.Args[0]), standInName); ok {
		if err := beStandIn(v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(153)
		}
	}
	os.Exit(m.Run())
}

// beStandIn is the life of one.
func beStandIn(name string) error {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Printf("Firecracker v%s\n\nSupported snapshot data format versions: x\n", name)
		os.Exit(0)
	}
	log, err := os.OpenFile(logFile, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	v, err := parseVersion(name)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", apiSocket)
	if err != nil {
		return err
	}
	s := &standIn{version: v, name: name, state: "Not started", drives: map[string]bool{}, guest: guest{listens: true}}
	s.exit = func(code int) {
		fmt.Fprintf(log, "2026-11-24T20:00:00.000000000 [a:main] something went wrong\n")
		fmt.Fprintf(log, "2026-11-24T20:00:00.000000000 [a:main] Firecracker exiting with error. exit_code=%d\n", code)
		os.Exit(code)
	}
	return http.Serve(l, s)
}

// standInDriver is a driver whose Firecracker is the stand-in. It has no jail: in
// there no program of Go's tests would find what it needs.
func standInDriver(t *testing.T, version string) *driver {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), standInName+version)
	if err := os.Link(self, binary); err != nil {
		b, err := os.ReadFile(self)
		if err == nil {
			err = os.WriteFile(binary, b, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return &driver{Options: Options{Binary: binary, Jailer: "/nowhere"}, kvm: func(context.Context) error { return nil }}
}

// standInSpec is one that is never booted.
func standInSpec(t *testing.T, words string) vm.Spec {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "m")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := vm.Spec{ID: "stand-in", Dir: dir, VCPU: 1, MemMiB: 64, Append: words}
	for _, p := range []*string{&s.Kernel, &s.Initrd} {
		*p = filepath.Join(dir, fmt.Sprintf("file-%p", p))
		if err := os.WriteFile(*p, leastKernel(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Drives = []vm.Drive{{Path: s.Initrd, ReadOnly: true}}
	return s
}

// leastKernel is what no driver can tell from a kernel.
func leastKernel() []byte {
	b := make([]byte, 64+56)
	if runtime.GOARCH == "arm64" {
		copy(b[56:], "ARM\x64")
		return b
	}
	copy(b, "\x7fELF\x02\x01\x01")
	copy(b[16:], "\x02\x00\x3e\x00\x01")
	b[32], b[52], b[54], b[56], b[58] = 64, 64, 56, 1, 64
	b[64] = 1 // to be loaded
	return b
}

// nothingLeft checks that a machine's end took all of it away.
func nothingLeft(t *testing.T, d *driver, dir string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, jailDir)); err == nil {
		t.Error("the jail is left")
	}
	found, err := d.Find(t.Context(), dir)
	if err != nil || len(found) > 0 {
		t.Errorf("left: %v, %v", found, err)
	}
	links, _ := filepath.Glob(filepath.Join(slotsDir, "*"))
	for _, l := range links {
		if to, _ := os.Readlink(l); strings.HasPrefix(to, dir) {
			t.Errorf("slot %s leads to %s", l, to)
		}
	}
}

// TestProcess boots the stand-in, hands it from one manager to the next while it
// is paused, and kills it.
func TestProcess(t *testing.T) {
	for _, name := range []string{"1.15.1", "1.16.1", "1.17.0-dev"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, spec := standInDriver(t, name), standInSpec(t, "")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			m, err := d.Boot(ctx, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Kill()
			h := m.Handle()
			if h.Version != name || h.Dir != spec.Dir || h.ID != spec.ID || h.Accel != "kvm" {
				t.Errorf("handle %+v", h)
			}
			if err := m.Pause(ctx); err != nil {
				t.Fatal(err)
			}
			if err := m.Release(); err != nil {
				t.Fatal(err)
			}
			if err := m.Kill(); wire.CodeOf(err) != wire.Conflict {
				t.Errorf("killing what was released: %v", err)
			}
			found, err := d.Find(ctx, filepath.Dir(spec.Dir))
			if err != nil || len(found) != 1 || found[0].PID != h.PID || found[0].Dir != h.Dir {
				t.Fatalf("found %+v, %v; want %+v", found, err, h)
			}
			again, err := d.Adopt(ctx, found[0]) // which knows no version
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			conn, err := again.Dial(ctx)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if err := again.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := again.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Errorf("Err is %v", err)
			}
			r, err := again.Console(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if b, _ := io.ReadAll(r); !strings.Contains(string(b), "the stand-in's guest") {
				t.Errorf("the console has %q", b)
			}
			nothingLeft(t, d, spec.Dir)
		})
	}
}

// TestEnds: an exit code is told in words, to the process that started it and to
// one that adopted it.
func TestEnds(t *testing.T) {
	for code, want := range map[int]string{0: "", 1: "something went wrong", 148: "system call", 77: "exit code 77"} {
		for _, adopted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d adopted %v", code, adopted), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				d, spec := standInDriver(t, "1.16.1"), standInSpec(t, fmt.Sprintf("standin.exit=%d", code))
				m, err := d.Boot(ctx, spec)
				if err != nil {
					t.Fatal(err)
				}
				if adopted {
					if err := m.Release(); err != nil {
						t.Fatal(err)
					}
					if m, err = d.Adopt(ctx, m.Handle()); err != nil {
						t.Skipf("it was gone before it could be adopted: %v", err)
					}
				}
				<-m.Done()
				if err := m.Err(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("Err is %v, want %q", err, want)
				}
				if _, err := m.Dial(ctx); wire.CodeOf(err) != wire.Unavailable {
					t.Errorf("dialling the dead: %v", err)
				}
				nothingLeft(t, d, spec.Dir)
			})
		}
	}
}

// TestRefused: what Firecracker refuses is the error of the boot, and leaves
// nothing; so does a program that is none.
func TestRefused(t *testing.T) {
	d, spec := standInDriver(t, "1.16.1"), standInSpec(t, "")
	for name, c := range map[string]struct {
		code  wire.Code
		spoil func(*vm.Spec)
	}{
		"id":     {wire.Invalid, func(s *vm.Spec) { s.ID = "a_b" }},
		"cpus":   {wire.Invalid, func(s *vm.Spec) { s.VCPU = 33 }},
		"memory": {wire.Invalid, func(s *vm.Spec) { s.MemMiB = 1 }},
		"drive":  {wire.NotFound, func(s *vm.Spec) { s.Drives = []vm.Drive{{Path: "/nowhere"}} }},
		"kernel": {wire.NotFound, func(s *vm.Spec) { s.Kernel = "/nowhere" }},
	} {
		s := spec
		c.spoil(&s)
		if _, err := d.Boot(t.Context(), s); wire.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	script := filepath.Join(t.TempDir(), "firecracker")
	text := "#!/bin/sh\ncase $1 in --version) echo Firecracker v1.16.1; exit;; esac\necho boom >&2\nexit 152\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	d.Binary = script
	if _, err := d.Boot(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "152") {
		t.Errorf("booting with a script: %v", err)
	}
	nothingLeft(t, d, spec.Dir)
	for _, words := range []string{"QEMU 7", "Firecracker v1.2.3", "Firecracker v9"} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\necho "+words+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if v, err := d.Version(t.Context()); wire.CodeOf(err) != wire.Unavailable {
			t.Errorf("%q is %s, %v", words, v, err)
		}
	}
}
