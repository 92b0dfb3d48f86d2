package vm

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestGuestCode assembles the test guest's source and compares.
func TestGuestCode(t *testing.T) {
	for _, tool := range []string{"as", "objcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: not in PATH", tool)
		}
	}
	dir := t.TempDir()
	obj, bin := filepath.Join(dir, "guest.o"), filepath.Join(dir, "guest.bin")
	for _, c := range [][]string{
		{"as", "--64", "-o", obj, "testdata/kvm_guest.s"},
		{"objcopy", "-O", "binary", "-j", ".text", obj, bin},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	got, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, testGuest) {
		t.Errorf("testGuest is not testdata/kvm_guest.s:\n% x\n% x", testGuest, got)
	}
}

// TestKVMStructs: the sizes are part of the ioctl numbers.
func TestKVMStructs(t *testing.T) {
	for name, c := range map[string]struct {
		got  uintptr
		call uint32
	}{
		"kvm_regs":                    {unsafe.Sizeof(kvmRegs{}), kvmSetRegs},
		"kvm_sregs":                   {unsafe.Sizeof(kvmSregs{}), kvmSetSregs},
		"kvm_userspace_memory_region": {unsafe.Sizeof(kvmMemRegion{}), kvmSetUserMemRegion},
	} {
		if want := uintptr(c.call >> 16 & 0x3fff); c.got != want {
			t.Errorf("%s has %d bytes, want %d", name, c.got, want)
		}
	}
}

// TestSpinningGuest: a guest that never leaves the CPU is given up on.
func TestSpinningGuest(t *testing.T) {
	fd, err := unix.Open(kvmDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs %s: %v", kvmDevice, err)
	}
	what, err := boundedGuest(t.Context(), fd, []byte{0xeb, 0xfe}) // jmp to itself
	if err == nil {
		t.Fatalf("a guest that never halts passed: %s", what)
	}
	t.Log(err)
	if !errors.Is(err, errSpins) && !errors.Is(err, errLeft) { // the latter on a host that is very busy
		t.Errorf("want %v, got %v", errSpins, err)
	}
}
