package bandsox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
)

// Leftover is something that no living sandbox or process owns.
type Leftover struct {
	Kind string `json:"kind"` // sandbox, machine, directory, scratch, snapshot, kernel, initramfs, base, build
	ID   string `json:"id"`   // a sandbox's id or a path
	Why  string `json:"why"`
}

// Cleanup finds what killed processes left behind, and the kernels and initial
// file systems that nothing uses any more, and unless dryRun reclaims it. What
// runs or belongs to a living process is not touched.
func (m *Manager) Cleanup(ctx context.Context, dryRun bool) ([]Leftover, error) {
	found, err := m.reclaim(ctx, dryRun)
	if err != nil {
		return found, fail("cleanup", "", err)
	}
	for _, sweep := range []func(context.Context, bool) ([]Leftover, error){m.sweepSnapshots, m.sweepKernels, m.sweepInitramfs, m.sweepBases, m.sweepBuilds} {
		more, err := sweep(ctx, dryRun)
		if found = append(found, more...); err != nil {
			return found, fail("cleanup", "", err)
		}
	}
	return found, nil
}

// reclaim is the part of Cleanup that has to do with sandboxes.
func (m *Manager) reclaim(ctx context.Context, dryRun bool) ([]Leftover, error) {
	found := []Leftover{}
	// Directories and machines come after their record and go before it: read
	// in this order, none of a living sandbox can look ownerless.
	dirs, err := os.ReadDir(m.store.Sandboxes())
	if err != nil {
		return nil, err
	}
	handles, err := m.driver.Find(ctx, m.store.Sandboxes())
	if err != nil {
		return nil, err
	}
	rows, err := m.store.List(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, row := range rows {
		known[row.ID] = true
		why := m.abandoned(row)
		if why == "" {
			continue
		}
		found = append(found, Leftover{"sandbox", row.ID, why})
		if !dryRun {
			if err := m.finish(ctx, row); err != nil {
				return found, err
			}
		}
	}
	for _, h := range handles {
		if known[h.ID] {
			continue
		}
		found = append(found, Leftover{"machine", h.ID, "no sandbox has it"})
		if !dryRun {
			if err := m.killAll(ctx, []vm.Handle{h}); err != nil {
				return found, err
			}
		}
	}
	for _, dir := range dirs {
		if known[dir.Name()] {
			continue
		}
		path := filepath.Join(m.store.Sandboxes(), dir.Name())
		found = append(found, Leftover{"directory", path, "no sandbox has it"})
		if !dryRun {
			if err := os.RemoveAll(path); err != nil {
				return found, err
			}
		}
	}
	scratch, err := m.sweepScratch(ctx, dryRun)
	return append(found, scratch...), err
}

// undo does the part of Cleanup that every Open can afford.
func (m *Manager) undo(ctx context.Context, rows []store.Sandbox) error {
	for _, row := range rows {
		if why := m.abandoned(row); why != "" {
			m.log.Info("removing an abandoned sandbox", "sandbox", row.ID, "why", why)
			if err := m.finish(ctx, row); err != nil {
				return err
			}
		}
	}
	_, err := m.sweepScratch(ctx, false)
	return err
}

// abandoned says why a sandbox is nobody's, or "".
func (m *Manager) abandoned(row store.Sandbox) string {
	info, err := decode(row)
	if err == nil && info.Status != StateCreating && overdue(info.ExpiresAt) {
		return "its time to live is over"
	}
	// An owner that has just come has begun nothing yet, and nobody else is there.
	underWay := func() bool { return !m.loading && row.Owner.Alive() }
	switch state := State(row.State); {
	case state == StateCreating && !underWay():
		return "its creator died"
	case state == StateDeleted && !underWay():
		return "its removal was cut short"
	case state == StateCreating || state == StateDeleted:
		return ""
	}
	if err == nil && info.AutoRemove && !row.Owner.Alive() {
		return "it was to go with its creator, which died"
	}
	return ""
}

// finish removes an abandoned sandbox. Its machine may run without being in the
// record: the creator may have died between the two.
func (m *Manager) finish(ctx context.Context, row store.Sandbox) error {
	handles, err := m.driver.Find(ctx, m.store.Machine(row.ID))
	if err != nil {
		return err
	}
	if err := m.killAll(ctx, handles); err != nil {
		return err
	}
	return m.remove(ctx, row.ID)
}

func (m *Manager) killAll(ctx context.Context, handles []vm.Handle) error {
	for _, h := range handles {
		machine, err := m.driver.Adopt(ctx, h)
		if classify(err) == CodeNotFound && err != nil {
			continue
		} else if err != nil {
			return err
		}
		if err := machine.Kill(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) sweepScratch(ctx context.Context, dryRun bool) ([]Leftover, error) {
	dead, err := m.store.DeadScratch()
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for _, path := range dead {
		found = append(found, Leftover{"scratch", path, "its process died"})
		if !dryRun {
			handles, err := m.driver.Find(ctx, path) // views of stopped sandboxes
			if err == nil {
				err = m.killAll(ctx, handles)
			}
			if err != nil {
				return found, err
			}
			if err := os.RemoveAll(path); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// Abandon kills, at once, the machines of the sandboxes that this process made
// AutoRemove or has not made whole yet, and leaves the rest to the next
// manager: for a program that must leave now.
func (m *Manager) Abandon() error {
	m.mu.Lock()
	var list []*Sandbox
	for _, sb := range m.live {
		list = append(list, sb)
	}
	m.mu.Unlock()
	var errs []error
	for _, sb := range list {
		sb.mu.Lock()
		machine, auto := sb.machine, sb.info.AutoRemove && sb.owner == m.store.Self()
		sb.mu.Unlock()
		if auto && machine != nil {
			errs = append(errs, machine.Kill())
		}
	}
	return fail("abandon", "", errors.Join(append(errs, m.abandonBooting(context.Background()))...))
}

// abandonBooting kills the machines that nobody has in hand yet. Their records
// stay, so that one which starts at this moment is found by the next manager.
func (m *Manager) abandonBooting(ctx context.Context) error {
	handles, err := m.driver.Find(ctx, m.store.Sandboxes())
	if err != nil || len(handles) == 0 {
		return err
	}
	rows, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	booting := map[string]bool{}
	for _, row := range rows {
		booting[row.ID] = row.Owner == m.store.Self() && State(row.State) == StateCreating
	}
	return m.killAll(ctx, slices.DeleteFunc(handles, func(h vm.Handle) bool { return !booting[h.ID] }))
}
