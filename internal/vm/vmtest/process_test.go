package vmtest

import (
	"testing"

	"github.com/bandsox/bandsox/internal/vm"
)

func TestMain(m *testing.M) { Main(m.Run) }

// TestContract holds the process fake to what it stands for.
func TestContract(t *testing.T) {
	Run(t, func() vm.Driver { return NewProcess() }, Processes(t))
}
