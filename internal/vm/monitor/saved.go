package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// CheckSaved is the path of the memory that was saved in dir of a machine with
// so much of it, if all is there.
func CheckSaved(dir string, mib int) (memory string, err error) {
	for _, name := range []string{vm.SavedState, vm.SavedMemory} {
		st, err := os.Stat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", wire.Errorf(wire.NotFound, "opening what was saved: %w", err)
		case err != nil:
			return "", wire.Errorf(CodeOf(err), "opening what was saved: %w", err)
		case name == vm.SavedMemory && st.Size() != int64(mib)<<20:
			return "", wire.Errorf(wire.Conflict, "the saved memory has %d bytes: want %d MiB", st.Size(), mib)
		}
	}
	return filepath.Abs(filepath.Join(dir, vm.SavedMemory))
}
