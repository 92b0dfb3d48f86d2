package qemu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// TestConsoleFiles: what is kept is the newest part, and bounded.
func TestConsoleFiles(t *testing.T) {
	c := console{dir: t.TempDir()}
	if r, err := c.open(); err != nil {
		t.Fatal(err)
	} else if b, _ := io.ReadAll(r); len(b) != 0 {
		t.Errorf("an empty console has %q", b)
	}
	line := strings.Repeat("x", 999) + "\n"
	for range 5000 {
		if err := c.append([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.append([]byte("[1.0] Kernel panic - not syncing: no \xff init\nmore\n")); err != nil {
		t.Fatal(err)
	}
	r, err := c.open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < consoleHalf || len(b) > 2*consoleHalf+len(line) || !bytes.HasSuffix(b, []byte("more\n")) {
		t.Errorf("%d bytes, ending in %q", len(b), b[max(0, len(b)-20):])
	}
	if why := c.panicLine(); why != "no ? init" {
		t.Errorf("panic %q", why)
	}
}

// TestConsoleFollowsNoLink: nobody makes us write elsewhere.
func TestConsoleFollowsNoLink(t *testing.T) {
	c := console{dir: t.TempDir()}
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, c.path(consoleFile)); err != nil {
		t.Fatal(err)
	}
	if err := c.append([]byte("x")); err == nil {
		t.Error("a link was followed")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("its target was made")
	}
}

// TestStderr: QEMU is never held up, and its newest messages are kept.
func TestStderr(t *testing.T) {
	tail, w, err := newStderr()
	if err != nil {
		t.Fatal(err)
	}
	for range 20_000 {
		_, _ = w.WriteString("qemu-system-" + guest.qemu + ": a device complains\n")
	}
	for { // the pipe may be full
		if _, err := w.WriteString("warning: TCG doesn't support requested feature: x\nlast words\n"); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_ = w.Close()
	tail.wait()
	got := tail.String()
	if !strings.HasSuffix(got, "a device complains; last words") || len(got) > stderrKept {
		t.Errorf("%d bytes: …%q", len(got), got[max(0, len(got)-60):])
	}
	tail.Close()
}

// TestProcess: a process is killed and reaped; a number alone adopts nobody.
func TestProcess(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	// One that we inherited, say, from a shell that holds a lock by it.
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	p, err := startProcess([]string{"/bin/sleep", "1000"}, t.TempDir(), []*os.File{null, null, null})
	if err != nil {
		t.Skipf("needs /bin/sleep: %v", err)
	}
	defer p.kill()
	if _, err := findProcess(p.pid, p.start+1); err == nil {
		t.Error("found a process that started at another time")
	}
	other, err := findProcess(p.pid, p.start)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := machineOf(p.pid); ok {
		t.Error("sleep is no machine")
	}
	ours, err := os.Readlink(procPath(os.Getpid(), fmt.Sprintf("fd/%d", pipe[1])))
	if err != nil {
		t.Fatal(err)
	}
	fds, err := filepath.Glob(procPath(p.pid, "fd/*"))
	if err != nil || len(fds) == 0 {
		t.Fatalf("its descriptors: %v, %v", fds, err)
	}
	for _, fd := range fds {
		if theirs, _ := os.Readlink(fd); theirs == ours {
			t.Errorf("it inherited %s", theirs)
		}
	}
	if err := other.kill(); err != nil {
		t.Error(err)
	}
	<-p.done
	if p.state == nil || p.state.Success() {
		t.Errorf("state %v", p.state)
	}
	if err := p.kill(); err != nil {
		t.Errorf("killing the dead: %v", err)
	}
	if _, err := findProcess(p.pid, p.start); err == nil {
		t.Error("found the dead")
	}
}

func TestCheckSpec(t *testing.T) {
	good := vm.Spec{ID: "a", VCPU: 1, MemMiB: 256}
	for name, spoil := range map[string]func(*vm.Spec){
		"comma":  func(s *vm.Spec) { s.ID = "a,b" },
		"flag":   func(s *vm.Spec) { s.ID = "-a" },
		"cpus":   func(s *vm.Spec) { s.VCPU = 0 },
		"memory": func(s *vm.Spec) { s.MemMiB = 0 },
		"drives": func(s *vm.Spec) { s.Drives = make([]vm.Drive, 7) },
	} {
		s := good
		spoil(&s)
		if err := checkSpec(s); wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.Kernel = filepath.Join(t.TempDir(), "none")
	if err := checkKernel(good.Kernel); wire.CodeOf(err) != wire.NotFound || hintOf(err) == "" {
		t.Errorf("no kernel: %v", err)
	}
}

// TestArguments: a path with commas stays one, and only who may write does.
func TestArguments(t *testing.T) {
	l := launch{Spec: vm.Spec{ID: "x", VCPU: 2, MemMiB: 64, Drives: []vm.Drive{{Path: "/a,b", ReadOnly: true}, {Path: "/c"}}}, accel: "tcg"}
	args := l.arguments(3, 4)
	for _, want := range []string{
		`{"discard":"unmap","driver":"file","filename":"/a,b","node-name":"drive0","read-only":true}`,
		`{"discard":"unmap","driver":"file","filename":"/c","node-name":"drive1","read-only":false}`,
		agentMark, "guest=bandsox-x,debug-threads=on",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("no argument %s in %q", want, args)
		}
	}
}

// elfKernel is the least kernel that can boot: a program header, and a note.
func elfKernel(note string) []byte {
	b := make([]byte, 64+2*56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	le.PutUint16(b[58:], 64)
	for i, kind := range []uint32{1, 4} {
		p := b[64+56*i:]
		le.PutUint32(p, kind)
		le.PutUint64(p[8:], uint64(len(b)))
		le.PutUint64(p[32:], uint64(len(note)))
		le.PutUint64(p[40:], uint64(len(note)))
	}
	return append(b, note...)
}

const pvhNote = "\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00\x00\x00\x00\x01"

func TestKernelCheck(t *testing.T) {
	if guest.qemu != "x86_64" {
		t.Skip("needs amd64")
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"good":    {elfKernel(pvhNote), ""},
		"no note": {elfKernel(strings.Replace(pvhNote, "Xen", "Xin", 1)), "CONFIG_PVH"},
		"short":   {elfKernel(pvhNote)[:64+2*56+4], "cut short"},
		"bzImage": {bytes.Repeat([]byte("HdrS"), 1000), "no vmlinux"},
	} {
		path := filepath.Join(t.TempDir(), "kernel")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		err := checkKernel(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// FuzzKernelCheck reads what someone took for a kernel.
func FuzzKernelCheck(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(elfKernel(pvhNote))
	f.Add(elfKernel("\xff\xff\xff\xff\xff\xff\xff\xff\x12\x00\x00\x00Xen\x00"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := os.CreateTemp(dir, "kernel")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		defer os.Remove(file.Name())
		if _, err := file.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = bootable(file)
	})
}
