package bandsox

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// until waits for a state for far longer than it takes.
func until(t *testing.T, sb *Sandbox, state State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := sb.Wait(ctx, state); err != nil {
		t.Fatal(err)
	}
}

// age makes the sandbox as old as if d had gone by: its time in the record
// comes nearer by that much.
func age(t *testing.T, sb *Sandbox, d time.Duration) {
	t.Helper()
	sb.mu.Lock()
	sb.used = sb.used.Add(-d)
	sb.mu.Unlock()
	if err := sb.save(t.Context(), func(i *Info) {
		if !i.ExpiresAt.IsZero() {
			i.ExpiresAt = i.ExpiresAt.Add(-d)
		}
		if !i.LastUsed.IsZero() {
			i.LastUsed = i.LastUsed.Add(-d)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, dir)
	sb := create(t, m, CreateOptions{TTL: time.Hour})
	other := create(t, m, CreateOptions{TTL: time.Hour})
	none := time.Duration(0)
	if err := other.Update(t.Context(), Update{TTL: &none}); err != nil {
		t.Fatal(err)
	}
	age(t, sb, time.Hour)
	age(t, other, time.Hour)
	until(t, sb, StateDeleted)
	if info, err := other.Info(t.Context()); err != nil || info.Status != StateRunning {
		t.Errorf("one without an end ended: %+v %v", info, err)
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	image := testImage(t)
	t.Run("pause, and its next use resumes it", func(t *testing.T) {
		sb := create(t, m, CreateOptions{Image: image, IdleTimeout: time.Hour})
		age(t, sb, time.Hour)
		until(t, sb, StatePaused)
		if _, err := sb.Stats(t.Context()); err != nil || sb.state() != StatePaused {
			t.Errorf("a look at figures: %v, and now it is %s", err, sb.state())
		}
		if _, err := sb.Processes(t.Context()); !errors.Is(err, ErrConflict) {
			t.Errorf("a look at its programs woke it: %v", err)
		}
		if out, err := sb.Shell("echo awake").Output(t.Context()); err != nil || string(out) != "awake\n" {
			t.Errorf("%q %v", out, err)
		}
		if err := sb.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := sb.Command("true").Run(t.Context()); !errors.Is(err, ErrConflict) {
			t.Errorf("one that was paused by hand: %v", err)
		}
	})
	t.Run("stop", func(t *testing.T) {
		sb := create(t, m, CreateOptions{Image: image, IdleTimeout: time.Hour, IdleAction: IdleStop})
		age(t, sb, time.Hour)
		until(t, sb, StateStopped)
		eventually(t, func() bool { return strings.Contains(sb.known().Reason, "idle") })
	})
	t.Run("delete", func(t *testing.T) {
		sb := create(t, m, CreateOptions{Image: image, IdleTimeout: time.Hour, IdleAction: IdleDelete})
		age(t, sb, time.Hour)
		until(t, sb, StateDeleted)
	})
	t.Run("not while a stream is open", func(t *testing.T) {
		sb := create(t, m, CreateOptions{Image: image, IdleTimeout: time.Hour})
		cmd := sb.Command("sleep", "60")
		if err := cmd.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := sb.known().LastUsed
		age(t, sb, time.Hour)
		eventually(t, func() bool { return sb.known().LastUsed.After(before) }) // it looked, and saw
		if s := sb.state(); s != StateRunning {
			t.Fatalf("%s in the middle of a program", s)
		}
		if err := cmd.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait(t.Context())
		eventually(t, func() bool { busy, _ := sb.client.Busy(); return !busy })
		if s := sb.state(); s != StateRunning {
			t.Errorf("%s at once after a program", s)
		}
	})
}

// TestOverdueAtOpen: the times are in the records, so they go on without a manager.
func TestOverdueAtOpen(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		dir, image := t.TempDir(), testImage(t)
		opened := func() *Manager {
			m, err := openFakeWith(t.Context(), Config{Storage: dir, Shared: shared})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		m := opened()
		dead := create(t, m, CreateOptions{Image: image, TTL: time.Hour})
		idle := create(t, m, CreateOptions{Image: image, Name: "idle", IdleTimeout: time.Hour})
		young := create(t, m, CreateOptions{Image: image, Name: "young", IdleTimeout: time.Hour, TTL: time.Hour})
		close(m.stop) // as if it were dead: it acts no more
		m.mu.Lock()
		m.closed = true
		m.mu.Unlock()
		age(t, dead, time.Hour)
		age(t, idle, 2*time.Hour)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m = opened()
		t.Cleanup(func() { shut(t, m) })
		if _, err := m.Get(t.Context(), dead.ID()); !errors.Is(err, ErrNotFound) {
			t.Errorf("shared %v: it should be dead: %v", shared, err)
		}
		sb, err := m.Get(t.Context(), "idle")
		if err != nil {
			t.Fatal(err)
		}
		until(t, sb, StatePaused)
		if sb, err := m.Get(t.Context(), young.ID()); err != nil || sb.state() != StateRunning {
			t.Errorf("shared %v: one whose time is not over: %v", shared, err)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := newSharedManager(t, dir), newSharedManager(t, dir)
	sb := create(t, one, CreateOptions{Name: "box"})
	theirs, err := two.Get(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	until(t, theirs, StateRunning)
	if err := sb.Wait(t.Context(), "asleep"); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown state: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := sb.Wait(ctx, StateStopped); !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "running") {
		t.Errorf("in vain: %v", err)
	}
	got := make(chan error, 2)
	for _, sb := range []*Sandbox{sb, theirs} {
		go func() { got <- sb.Wait(t.Context(), StateStopped) }()
	}
	if err := sb.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	go func() { got <- theirs.Wait(t.Context(), StateRunning) }()
	if err := sb.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrNotFound) {
		t.Errorf("one that was deleted meanwhile: %v", err)
	}
}
