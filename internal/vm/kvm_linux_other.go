//go:build linux && !amd64

package vm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var testGuest []byte

// runTestGuest creates a virtual machine and a virtual CPU. It runs nothing:
// the KVM that opens and can't run a kernel is known on x86 only.
func runTestGuest(kvm int, _ []byte, _ *vcpuRun) (string, error) {
	const createVM, createVCPU = 0xae01, 0xae41
	vm, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(kvm), createVM, 0)
	if errno != 0 {
		return "", fmt.Errorf("creating a virtual machine: %w", errno)
	}
	defer unix.Close(int(vm))
	cpu, _, errno := unix.Syscall(unix.SYS_IOCTL, vm, createVCPU, 0)
	if errno != 0 {
		return "", fmt.Errorf("creating a virtual CPU: %w", errno)
	}
	defer unix.Close(int(cpu))
	return "a virtual machine and its CPU were created; no guest was run on this architecture", nil
}
