package monitor

import (
	"context"

	"github.com/bandsox/bandsox/internal/vm"
)

// Find looks through the host's processes for a driver's machines under dir:
// handleOf makes a handle of one of them.
func Find(ctx context.Context, dir string, handleOf func(pid int) (vm.Handle, bool)) ([]vm.Handle, error) {
	dir, err := RealPath(dir)
	if err != nil {
		return nil, err
	}
	pids, err := Pids()
	if err != nil {
		return nil, err
	}
	var found []vm.Handle
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if h, ok := handleOf(pid); ok && Under(h.Dir, dir) {
			found = append(found, h)
		}
	}
	return found, nil
}
