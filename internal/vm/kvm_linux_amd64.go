package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// testGuest is testdata/kvm_guest.s: it loads its own descriptor tables, takes
// a trap and a fault through them, says so on port 0x10 and halts.
var testGuest = []byte{
	0xb0, 0x41, 0xe6, 0x10, 0x0f, 0x01, 0x15, 0x9d, 0x00, 0x00, 0x00, 0xb8,
	0x10, 0x00, 0x00, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x6a, 0x08,
	0x48, 0x8d, 0x05, 0x03, 0x00, 0x00, 0x00, 0x50, 0x48, 0xcb, 0xb0, 0x42,
	0xe6, 0x10, 0xbf, 0x00, 0x30, 0x00, 0x00, 0x31, 0xc9, 0x48, 0x8d, 0x05,
	0x53, 0x00, 0x00, 0x00, 0x66, 0x89, 0x07, 0x66, 0xc7, 0x47, 0x02, 0x08,
	0x00, 0x66, 0xc7, 0x47, 0x04, 0x00, 0x8e, 0x66, 0xc7, 0x47, 0x06, 0x00,
	0x00, 0x48, 0xc7, 0x47, 0x08, 0x00, 0x00, 0x00, 0x00, 0x48, 0x83, 0xc7,
	0x10, 0xff, 0xc1, 0x83, 0xf9, 0x20, 0x72, 0xd8, 0x0f, 0x01, 0x1d, 0x4f,
	0x00, 0x00, 0x00, 0xb0, 0x43, 0xe6, 0x10, 0xcc, 0x83, 0xfb, 0x01, 0x75,
	0x15, 0xb0, 0x44, 0xe6, 0x10, 0xbd, 0x02, 0x00, 0x00, 0x00, 0x0f, 0x0b,
	0x83, 0xfb, 0x02, 0x75, 0x05, 0xb0, 0x5a, 0xe6, 0x10, 0xf4, 0xb0, 0x21,
	0xe6, 0x10, 0xf4, 0xff, 0xc3, 0x48, 0x01, 0x2c, 0x24, 0x48, 0xcf, 0x90,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00,
	0x00, 0x9b, 0xaf, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,
	0x17, 0x00, 0x90, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0x01,
	0x00, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
}

// Where things are in the guest's memory.
const (
	guestCode  = 0x1000 // its descriptor table of interrupts is at 0x3000
	guestStack = 0x8000
	guestPML4  = 0x9000
	guestPDPT  = 0xa000
	guestPD    = 0xb000
	guestSize  = 1 << 20
)

// The KVM API: linux/kvm.h.
const (
	kvmGetAPIVersion    = 0xae00
	kvmCreateVM         = 0xae01
	kvmGetVCPUMmapSize  = 0xae04
	kvmCreateVCPU       = 0xae41
	kvmSetTSSAddr       = 0xae47
	kvmGetCPUID         = 0xc008ae05
	kvmSetCPUID         = 0x4008ae90
	kvmSetUserMemRegion = 0x4020ae46
	kvmRun              = 0xae80
	kvmSetRegs          = 0x4090ae82
	kvmGetSregs         = 0x8138ae83
	kvmSetSregs         = 0x4138ae84

	exitIO       = 2
	exitHLT      = 5
	exitInternal = 17
)

type kvmRegs struct {
	_           [6]uint64
	RSP         uint64
	_           [9]uint64
	RIP, RFLAGS uint64
}

type kvmSegment struct {
	Base                                              uint64
	Limit                                             uint32
	Selector                                          uint16
	Type, Present, DPL, DB, S, L, G, AVL, Unusable, _ uint8
}

type kvmSregs struct {
	CS, DS, ES, FS, GS, SS, TR, LDT            kvmSegment
	_                                          [4]uint64 // gdt, idt
	CR0, CR2, CR3, CR4, CR8, EFER, APICBaseMSR uint64
	_                                          [4]uint64
}

type kvmMemRegion struct {
	Slot, Flags               uint32
	GuestPhys, Size, UserAddr uint64
}

// runTestGuest creates a virtual machine and runs code in it: testGuest, but
// for the tests.
func runTestGuest(kvm int, code []byte, run *vcpuRun) (string, error) {
	if v, err := ioctl(kvm, kvmGetAPIVersion, 0); err != nil || v != 12 {
		return "", fmt.Errorf("%s has API version %d: %w", kvmDevice, v, orNotSupported(err))
	}
	vm, err := ioctl(kvm, kvmCreateVM, 0)
	if err != nil {
		return "", fmt.Errorf("creating a virtual machine: %w", err)
	}
	defer unix.Close(vm)
	// Intel needs three pages of its own; no other KVM minds.
	_, _ = ioctl(vm, kvmSetTSSAddr, 0xfffbd000)

	mem, err := unix.Mmap(-1, 0, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		return "", fmt.Errorf("mapping the test guest's memory: %w", err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	copy(mem[guestCode:], code)
	mapGuest(mem)
	region := kvmMemRegion{Size: guestSize, UserAddr: uint64(uintptr(unsafe.Pointer(&mem[0])))}
	if _, err := ioctlPtr(vm, kvmSetUserMemRegion, unsafe.Pointer(&region)); err != nil {
		return "", fmt.Errorf("giving the test guest memory: %w", err)
	}
	cpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return "", fmt.Errorf("creating a virtual CPU: %w", err)
	}
	defer unix.Close(cpu)
	if err := setCPUID(kvm, cpu); err != nil {
		return "", err
	}
	if err := setLongMode(cpu); err != nil {
		return "", err
	}
	size, err := ioctl(kvm, kvmGetVCPUMmapSize, 0)
	if err != nil || size < 4096 {
		return "", fmt.Errorf("asking for the size of kvm_run: got %d: %w", size, orNotSupported(err))
	}
	state, err := unix.Mmap(cpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return "", fmt.Errorf("mapping kvm_run: %w", err)
	}
	defer func() { _ = unix.Munmap(state) }()
	return enterGuest(cpu, state, run)
}

// enterGuest runs the vCPU until it halts, and judges what it reported.
func enterGuest(cpu int, state []byte, run *vcpuRun) (string, error) {
	var steps []byte
	for {
		_, err := ioctl(cpu, kvmRun, 0)
		switch {
		case run.late.Load():
			return "", fmt.Errorf("%w, after steps %q", errSpins, steps)
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return "", fmt.Errorf("running the test guest after steps %q: %w", steps, err)
		}
		switch reason := binary.NativeEndian.Uint32(state[8:]); {
		case reason == exitIO && len(steps) < 16:
			at := binary.NativeEndian.Uint64(state[40:])
			if at >= uint64(len(state)) {
				return "", fmt.Errorf("the test guest's output lies outside kvm_run")
			}
			steps = append(steps, state[at])
		case reason == exitHLT && string(steps) == "ABCDZ":
			return "a test guest took an exception through its own table and halted", nil
		case reason == exitInternal:
			return "", fmt.Errorf("the test guest stopped with an internal error of KVM (%d) after steps %q",
				binary.NativeEndian.Uint32(state[32:]), steps)
		default:
			return "", fmt.Errorf("the test guest stopped with exit reason %d after steps %q", reason, steps)
		}
	}
}

// mapGuest maps the first gigabyte one to one, in pages of 2 MiB.
func mapGuest(mem []byte) {
	put := binary.LittleEndian.PutUint64
	put(mem[guestPML4:], guestPDPT|3)
	put(mem[guestPDPT:], guestPD|3)
	for i := range uint64(512) {
		put(mem[guestPD+8*i:], i<<21|0x83)
	}
}

// setCPUID gives the vCPU every feature that KVM can give.
func setCPUID(kvm, cpu int) error {
	const entries = 256
	table := make([]uint32, 2+10*entries) // kvm_cpuid2: a count, padding, entries of 40 bytes
	table[0] = entries
	if _, err := ioctlPtr(kvm, kvmGetCPUID, unsafe.Pointer(&table[0])); err != nil {
		return fmt.Errorf("asking for the CPU features that KVM gives: %w", err)
	}
	if _, err := ioctlPtr(cpu, kvmSetCPUID, unsafe.Pointer(&table[0])); err != nil {
		return fmt.Errorf("setting the virtual CPU's features: %w", err)
	}
	return nil
}

// setLongMode starts the vCPU where a kernel's 64-bit entry point would be.
func setLongMode(cpu int) error {
	var s kvmSregs
	if _, err := ioctlPtr(cpu, kvmGetSregs, unsafe.Pointer(&s)); err != nil {
		return fmt.Errorf("reading the virtual CPU's registers: %w", err)
	}
	s.CS = kvmSegment{Limit: 0xffffffff, Selector: 8, Type: 11, Present: 1, S: 1, L: 1, G: 1}
	data := kvmSegment{Limit: 0xffffffff, Selector: 16, Type: 3, Present: 1, DB: 1, S: 1, G: 1}
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.CR0, s.CR3, s.CR4, s.EFER = 0x80000011, guestPML4, 0x20, 0x500
	if _, err := ioctlPtr(cpu, kvmSetSregs, unsafe.Pointer(&s)); err != nil {
		return fmt.Errorf("setting the virtual CPU to long mode: %w", err)
	}
	r := kvmRegs{RSP: guestStack, RIP: guestCode, RFLAGS: 2}
	if _, err := ioctlPtr(cpu, kvmSetRegs, unsafe.Pointer(&r)); err != nil {
		return fmt.Errorf("setting the virtual CPU's registers: %w", err)
	}
	return nil
}

func orNotSupported(err error) error {
	if err != nil {
		return err
	}
	return errors.ErrUnsupported
}

func ioctl(fd int, req, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func ioctlPtr(fd int, req uintptr, p unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(p))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
