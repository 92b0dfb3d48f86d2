package qemu_test

import (
	"testing"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/qemu"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestContract runs real machines, with KVM where it works.
func TestContract(t *testing.T) {
	e := vmtest.Kit(t)
	d := qemu.New(qemu.Options{})
	version, err := d.Version(t.Context())
	if err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	t.Logf("QEMU %s", version)
	vmtest.Run(t, func() vm.Driver { return qemu.New(qemu.Options{}) }, e)
}
