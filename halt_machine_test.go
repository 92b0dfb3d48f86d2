package bandsox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/store"
)

// TestHaltedIsPaused: a machine that waits for room on the host's disk is paused
// for everyone, whether or not that can be written down, and runs once it is
// resumed. The events tell of both.
func TestHaltedIsPaused(t *testing.T) {
	for _, c := range []struct {
		name            string
		shared, reserve bool
	}{{"owner", false, true}, {"owner without a reserve", false, false}, {"shared without a reserve", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			dir := smallDisk(t, 80)
			cfg, image := realMachines(t, dir)
			cfg.Shared = c.shared
			m := openReal(t, cfg)
			sb := create(t, m, CreateOptions{Image: image, MemMiB: 128})
			pad := filepath.Join(dir, "pad") // room to make later
			if err := os.WriteFile(pad, make([]byte, 16<<20), 0o644); err != nil {
				t.Fatal(err)
			}
			if !c.reserve {
				if err := os.Remove(store.Layout(dir).Reserve()); err != nil {
					t.Fatal(err)
				}
			}
			cmd := sb.Shell("dd if=/dev/urandom of=/big bs=1M count=60 conv=fsync")
			if err := cmd.Run(t.Context()); !errors.Is(err, ErrExhausted) {
				t.Fatalf("writing more than the host has: %v", err)
			}
			isPaused(t, sb)
			if _, told := story(t, m, 0); c.reserve && !strings.HasSuffix(told, " paused") {
				t.Errorf("on a full disk: %s", told)
			}
			if err := os.Remove(pad); err != nil {
				t.Fatal(err)
			}
			if err := sb.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			goesOn(t, sb)
			if _, told := story(t, m, 0); strings.Count(told, "paused resumed") != 1 || strings.Count(told, "paused") != 1 {
				t.Error(told)
			}
			if _, err := os.Stat(store.Layout(dir).Reserve()); err != nil {
				t.Errorf("the reserve is not kept again: %v", err)
			}
		})
	}
}

func isPaused(t *testing.T, sb *Sandbox) {
	t.Helper()
	info, err := sb.Info(t.Context())
	if err != nil || info.Status != StatePaused || !strings.Contains(info.Reason, "disk is full") {
		t.Errorf("halted: %s %q %v", info.Status, info.Reason, err)
	}
}

// goesOn fails unless programs can be run in it, and it is known to run.
func goesOn(t *testing.T, sb *Sandbox) {
	t.Helper()
	for range 2 {
		if err := sb.Command("true").Run(t.Context()); err != nil {
			t.Errorf("after there was room: %v", err)
		}
		if info, err := sb.Info(t.Context()); err != nil || info.Status != StateRunning || info.Reason != "" {
			t.Errorf("after there was room: %s %q %v", info.Status, info.Reason, err)
		}
	}
}

// TestHaltedUnwritten: where nothing could be written down, the next manager is
// not misled by what the machine said before it let it go on.
func TestHaltedUnwritten(t *testing.T) {
	dir := smallDisk(t, 80)
	cfg, image := realMachines(t, dir)
	cfg.Shared = true // as commands are
	m, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	sb := create(t, m, CreateOptions{Image: image, MemMiB: 128})
	pad := filepath.Join(dir, "pad")
	if err := os.WriteFile(pad, make([]byte, 16<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(store.Layout(dir).Reserve()); err != nil {
		t.Fatal(err)
	}
	if err := sb.Shell("dd if=/dev/urandom of=/big bs=1M count=60 conv=fsync").Run(t.Context()); !errors.Is(err, ErrExhausted) {
		t.Fatalf("writing more than the host has: %v", err)
	}
	_ = m.Close()
	if err := os.Remove(pad); err != nil {
		t.Fatal(err)
	}
	m = openReal(t, cfg)
	if sb, err = m.Get(t.Context(), sb.ID()); err != nil {
		t.Fatal(err)
	}
	if err := sb.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	goesOn(t, sb)
}
