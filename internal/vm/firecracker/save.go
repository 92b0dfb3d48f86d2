package firecracker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// The names of what is saved, and of what is restored from, in a Firecracker's
// directory.
const (
	saveState   = "save-state"
	saveMemory  = "save-memory"
	savedState  = "state"
	savedMemory = "memory"
)

// shape is counted up when configure changes such that what was saved before
// doesn't fit.
const shape = "1"

// savedBy is what a machine must match that goes on where one of this version did.
func savedBy(version string) vm.Saved {
	return vm.Saved{Driver: "firecracker", Version: version, Accel: "kvm", CPU: vm.HostCPU(), Shape: shape}
}

// Saved is what this Firecracker would save.
func (d *driver) Saved(ctx context.Context) (vm.Saved, error) {
	version, err := d.Version(ctx)
	return savedBy(version), err
}

// goOnPatience is how long a saved machine is asked to go on.
const goOnPatience = 30 * time.Second

// Save has Firecracker write the machine down. Of a restored one only what is in
// memory goes into the copy of what that was restored from; Firecracker finds it
// by what the kernel has of the file, which is never less than what was written.
func (m *machine) Save(ctx context.Context, o vm.SaveOptions) (vm.Saved, error) {
	err := m.change(ctx, "saving", func(version) error {
		files := map[string]string{saveState: filepath.Join(o.Dir, vm.SavedState), saveMemory: filepath.Join(o.Dir, vm.SavedMemory)}
		for name, path := range files {
			f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				return wire.Errorf(monitor.CodeOf(err), "%w", err)
			}
			_ = f.Close()
			defer func() { _ = os.Chown(path, os.Geteuid(), os.Getegid()) }()
			defer func() { _ = os.Remove(filepath.Join(m.jail.root, name)) }()
			if err := m.jail.put(name, path, true); err != nil {
				return wire.Errorf(monitor.CodeOf(err), "%w", err)
			}
		}
		return m.still(ctx, func() error { return m.snapshot(ctx, o) })
	})
	return savedBy(m.handle.Version), err
}

// snapshot writes the files while the guest stands still.
func (m *machine) snapshot(ctx context.Context, o vm.SaveOptions) error {
	disks := o.Begin(ctx)
	kind := "Full"
	if m.handle.Memory != "" && !monitor.Swapped(m.handle.PID) {
		kind = "Diff"
	}
	err := m.api.createSnapshot(ctx, snapshotCreate{SnapshotType: kind, SnapshotPath: saveState, MemFilePath: saveMemory})
	return errors.Join(err, <-disks)
}

// still runs f while the guest is paused by the interface, which is the only way
// it can be saved. Then it does again what it did, whatever happens and whoever
// gives up.
func (m *machine) still(ctx context.Context, f func() error) (err error) {
	stopped := monitor.Stopped(m.handle.PID)
	if err := m.proc.Signal(unix.SIGCONT); err != nil {
		return err
	}
	again := func(do func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goOnPatience)
		defer cancel()
		err = errors.Join(err, do(ctx))
	}
	if stopped {
		defer again(m.stop)
	}
	info, err := m.api.info(ctx)
	if err != nil {
		return err
	}
	if info.State == stateRunning {
		// One that was stopped stays paused as well: then it hears the host again
		// when it is resumed, after what is saved here, on every version.
		if !stopped {
			defer again(func(ctx context.Context) error { return m.api.setState(ctx, askResume) })
		}
		if err := m.api.setState(ctx, askPause); err != nil {
			return err
		}
	}
	return f()
}

// Restore starts a Firecracker that goes on where a saved machine was.
func (d *driver) Restore(ctx context.Context, spec vm.Spec, from string, saved vm.Saved) (vm.Machine, error) {
	start := time.Now()
	fail := func(err error) error {
		return wire.Errorf(wire.CodeOf(err), "restoring machine %q: %w", spec.ID, err).WithHint("%s", monitor.HintOf(err))
	}
	spec.Kernel, spec.Initrd = "", ""
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	now, err := d.Saved(ctx)
	if err != nil {
		return nil, err
	}
	if err := saved.Fits(now); err != nil {
		return nil, fail(err)
	}
	version := now.Version
	if v, err := parseVersion(version); err != nil || deafAfterRestore.in(v) {
		return nil, fail(wire.Errorf(wire.Unavailable, "Firecracker %s has a flaw: %s", version, deafAfterRestore.what).WithHint("bandsox init --force"))
	}
	l := launch{Spec: spec, from: from}
	if l.memory, err = monitor.CheckSaved(from, spec.MemMiB); err != nil {
		return nil, fail(err)
	}
	m, err := d.launch(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := m.api.loadSnapshot(ctx, snapshotLoad{
		SnapshotPath: savedState, MemBackend: memBackend{BackendType: "File", BackendPath: savedMemory}, ResumeVM: true,
	}); err != nil {
		err = m.failure(ctx, "restoring", err)
		m.discard()
		return nil, err
	}
	m.handle.Boot = time.Since(start)
	go m.watch()
	return m, nil
}
