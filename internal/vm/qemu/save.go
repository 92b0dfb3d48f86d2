package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// contPatience is how long a saved machine is asked to go on.
const contPatience = 30 * time.Second

// Save stops the guest, has QEMU write down its devices, reads what is in its
// memory out of QEMU's, and lets it go on. QEMU's own migration would write all
// of the memory: of a restored machine only the pages that it has written to are
// its own, and the kernel knows which.
func (m *machine) Save(ctx context.Context, o vm.SaveOptions) (_ vm.Saved, err error) {
	defer func() {
		switch gone := m.gone(); {
		case err == nil:
		case gone != nil:
			err = fmt.Errorf("saving: %w", gone)
		default:
			err = wire.Errorf(saveCode(ctx, err), "saving machine %q: %w", m.handle.ID, err)
		}
	}()
	mem, err := m.openMemory(ctx, filepath.Join(o.Dir, vm.SavedMemory))
	if err != nil {
		return vm.Saved{}, err
	}
	defer func() { err = errors.Join(err, mem.Close()) }()
	state := filepath.Join(o.Dir, vm.SavedState)
	err = m.still(ctx, func() error {
		disks := o.Begin(ctx)
		err := m.do(ctx, "xen-save-devices-state", map[string]any{"filename": state, "live": false}, nil)
		if err == nil {
			err = mem.save(ctx)
		}
		return errors.Join(err, <-disks)
	})
	if err != nil {
		return vm.Saved{}, err
	}
	return savedBy(m.qmp.version, m.handle.Accel), nil
}

// do runs one QMP command when QEMU is connected to.
func (m *machine) do(ctx context.Context, command string, args, out any) error {
	return m.withQMP(ctx, func(q *qmp) error { return q.do(ctx, command, args, out) })
}

// still runs f while the guest is stopped. If it ran, it goes on, whatever
// happens and whoever gives up.
func (m *machine) still(ctx context.Context, f func() error) (err error) {
	var s struct{ Running bool }
	if err := m.do(ctx, "query-status", nil, &s); err != nil {
		return err
	}
	if s.Running {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), contPatience)
			defer cancel()
			err = errors.Join(err, m.do(ctx, "cont", nil, nil))
		}()
		if err := m.do(ctx, "stop", nil, nil); err != nil {
			return err
		}
	}
	return f()
}

func saveCode(ctx context.Context, err error) wire.Code {
	var refused *qmpError
	var known *wire.Error
	switch {
	case ctx.Err() != nil:
		return monitor.CodeOfContext(ctx)
	case errors.As(err, &known):
		return known.Code
	case errors.As(err, &refused):
		return wire.Conflict
	}
	return monitor.CodeOf(err)
}
