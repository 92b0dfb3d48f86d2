package bandsox

import (
	"context"
	"time"

	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/vm"
)

// Readiness is what a manager would make a sandbox with.
type Readiness struct {
	Driver  string `json:"driver"`
	Version string `json:"driver_version"`
	Kernel  string `json:"kernel,omitempty"` // its version; a driver may boot none
}

// versionFresh is how long it is believed that a monitor that was there is
// there: asking it starts a program.
const versionFresh = time.Minute

// Ready finds out, without booting anything, whether a sandbox could be made:
// the monitor's program is there and runs, and a kernel is installed. The error
// says what to type.
func (m *Manager) Ready(ctx context.Context) (Readiness, error) {
	r, err := m.readiness(ctx)
	return r, fail("ready", "", err)
}

func (m *Manager) readiness(ctx context.Context) (r Readiness, err error) {
	r.Driver = m.driver.Name()
	m.mu.Lock()
	r.Version = m.version.text
	fresh := time.Since(m.version.seen) < versionFresh
	m.mu.Unlock()
	if !fresh {
		if r.Version, err = m.driver.Version(ctx); err != nil {
			return r, err
		}
		m.mu.Lock()
		m.version.text, m.version.seen = r.Version, time.Now()
		m.mu.Unlock()
	}
	if _, ok := m.driver.(vm.Kernelless); ok {
		return r, nil
	}
	k, err := kernel.Open(m.store.Kernels())
	if err != nil {
		return r, err
	}
	r.Kernel = k.Version
	return r, nil
}
