package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// shape is counted up when the arguments change such that the state of a machine
// with the former ones doesn't fit.
const shape = "1"

// savedBy is what a machine must match that goes on where one of this version did.
func savedBy(version, accel string) vm.Saved {
	cpu := guest.cpu[accel]
	if accel == "kvm" {
		cpu = vm.HostCPU()
	}
	return vm.Saved{Driver: "qemu", Version: version, Accel: accel, CPU: cpu, Shape: shape}
}

// Saved is what this QEMU would save.
func (d *driver) Saved(ctx context.Context) (vm.Saved, error) {
	version, err := d.Version(ctx)
	if err != nil {
		return vm.Saved{}, err
	}
	accel, err := d.accel(ctx)
	return savedBy(version, accel), err
}

// Restore starts a QEMU that reads the devices' state and maps the memory
// privately: what the guest doesn't write to it shares with all others that were
// restored from there.
func (d *driver) Restore(ctx context.Context, spec vm.Spec, from string, saved vm.Saved) (_ vm.Machine, err error) {
	defer func() {
		if err != nil {
			err = wire.Errorf(wire.CodeOf(err), "restoring machine %q: %w", spec.ID, err).WithHint("%s", monitor.HintOf(err))
		}
	}()
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	now, err := d.Saved(ctx)
	if err != nil {
		return nil, err
	}
	if err := saved.Fits(now); err != nil {
		return nil, err
	}
	l := launch{Spec: spec}
	if l.memory, err = monitor.CheckSaved(from, spec.MemMiB); err != nil {
		return nil, err
	}
	if l.state, err = os.Open(filepath.Join(from, vm.SavedState)); err != nil {
		return nil, wire.Errorf(monitor.CodeOf(err), "opening what was saved: %w", err)
	}
	defer l.state.Close()
	return d.launch(ctx, l)
}

// loaded waits until QEMU has read the state and lets the guest go on. If it
// can't, it ends.
func (m *machine) loaded(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		var s struct{ Status string }
		if err := m.qmp.do(ctx, "query-status", nil, &s); err != nil {
			return err
		}
		switch s.Status {
		case "running":
			return nil
		case "inmigrate":
		default:
			return fmt.Errorf("QEMU is %s after it read the saved state", s.Status)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
