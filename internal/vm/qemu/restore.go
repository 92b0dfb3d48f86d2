package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
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
			err = wire.Errorf(wire.CodeOf(err), "restoring machine %q: %w", spec.ID, err).WithHint("%s", hintOf(err))
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
	if l.memory, err = savedMemory(from, spec.MemMiB); err != nil {
		return nil, err
	}
	if l.state, err = os.Open(filepath.Join(from, vm.SavedState)); err != nil {
		return nil, savedError(err)
	}
	defer l.state.Close()
	return d.launch(ctx, l)
}

// savedMemory is the path of the memory that was saved in dir.
func savedMemory(dir string, mib int) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, vm.SavedMemory))
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", savedError(err)
	}
	if info.Size() != int64(mib)<<20 {
		return "", wire.Errorf(wire.Conflict, "the saved memory has %d bytes: want %d MiB", info.Size(), mib)
	}
	return path, nil
}

func savedError(err error) error {
	code := codeOfErrno(err)
	if errors.Is(err, fs.ErrNotExist) {
		code = wire.NotFound
	}
	return wire.Errorf(code, "opening what was saved: %w", err)
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
