package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// fakeSaved is what the process fake saves: it has no memory to keep, so that
// programs don't go on in what is restored; files do.
var fakeSaved = vm.Saved{Driver: "process", Version: "fake", Accel: "none", CPU: "none", Shape: "1"}

// Saved is what every fake saves.
func (processDriver) Saved(context.Context) (vm.Saved, error) { return fakeSaved, nil }

// Save copies the machine's files while it is stopped.
func (m *processMachine) Save(ctx context.Context, o vm.SaveOptions) (vm.Saved, error) {
	stopped := monitor.Stopped(m.h.PID)
	if err := m.Pause(ctx); err != nil {
		return vm.Saved{}, err
	}
	if !stopped {
		defer func() { _ = m.Resume(context.WithoutCancel(ctx)) }()
	}
	err := copyFiles(ctx, m.root(), filepath.Join(o.Dir, vm.SavedState))
	if err == nil {
		err = os.WriteFile(filepath.Join(o.Dir, vm.SavedMemory), nil, 0o600)
	}
	if err == nil && o.Meanwhile != nil {
		err = o.Meanwhile(ctx)
	}
	if err != nil {
		return vm.Saved{}, wire.Errorf(wire.CodeOf(err), "saving machine %q: %w", m.h.ID, err)
	}
	return fakeSaved, nil
}

// Restore boots another with a copy of the files.
func (d processDriver) Restore(ctx context.Context, spec vm.Spec, from string, saved vm.Saved) (vm.Machine, error) {
	if err := saved.Fits(fakeSaved); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(from, vm.SavedMemory)); err != nil {
		return nil, wire.Errorf(wire.NotFound, "restoring machine %q: %w", spec.ID, err)
	}
	if err := copyFiles(ctx, filepath.Join(from, vm.SavedState), rootOf(spec)); err != nil {
		return nil, err
	}
	return d.boot(spec, filepath.Join(from, vm.SavedMemory))
}

// root is where the machine's files are.
func (m *processMachine) root() string {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.h.PID))
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if root, ok := strings.CutPrefix(string(v), rootEnv+"="); ok {
			return root
		}
	}
	return ""
}

func copyFiles(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return wire.Errorf(wire.Internal, "copying a machine's files: %w: %s", err, out)
	}
	return nil
}
