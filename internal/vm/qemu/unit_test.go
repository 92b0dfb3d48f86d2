package qemu

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

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
	if _, _, ok := machineOf([]string{"/bin/sleep", "1000"}); ok {
		t.Error("sleep is no machine")
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
