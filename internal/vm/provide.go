package vm

import "sync"

// Kernelless is a driver whose machines are no computers and boot no kernel:
// the process fake of the tests.
type Kernelless interface{ Kernelless() }

var (
	providedMu sync.Mutex
	provided   = map[string]func() Driver{}
)

// Provide makes a driver known by a name, to programs that bring one of their
// own. No product does: the tests' process fake comes this way.
func Provide(name string, make func() Driver) {
	providedMu.Lock()
	defer providedMu.Unlock()
	provided[name] = make
}

// Provided is a new driver of the kind that was provided by this name, nil if
// there is none.
func Provided(name string) Driver {
	providedMu.Lock()
	defer providedMu.Unlock()
	if make := provided[name]; make != nil {
		return make()
	}
	return nil
}
