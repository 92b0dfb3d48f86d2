package firecracker_test

import (
	"context"
	"os"
	"testing"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/firecracker"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestContract runs real machines: in the jailer as root, if there is one.
func TestContract(t *testing.T) { contract(t, firecracker.Options{}) }

// TestContractWithoutJailer is the same where there is none, or no root.
func TestContractWithoutJailer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: otherwise TestContract has no jailer")
	}
	contract(t, firecracker.Options{Jailer: "/nowhere"})
}

func contract(t *testing.T, o firecracker.Options) {
	d := firecracker.New(o)
	version, err := d.Version(t.Context())
	if err != nil {
		t.Skipf("needs Firecracker: %v", err)
	}
	k := vm.ProbeKVM(context.Background())
	for i := 0; !k.Works && k.Exists && i < 3; i++ { // a busy host may be too slow to prove it
		k = vm.ProbeKVM(context.Background())
	}
	if !k.Works {
		t.Skipf("needs KVM: %s", k.Reason)
	}
	e := vmtest.Kit(t, d.Traits().Modules...)
	t.Logf("Firecracker %s", version)
	vmtest.Run(t, func() vm.Driver { return firecracker.New(o) }, e)
}
