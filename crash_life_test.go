package bandsox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// lives are the steps in a sandbox's later life at which its manager is killed:
// what it was, what was done to it, where that was cut short, and what it must
// be when the next manager has opened the directory.
var lives = []struct {
	was    State
	do, at string
	is     State
}{
	{StateStopped, "start", "start", StateStopped},
	{StateStopped, "start", "machine", StateStopped}, // its disk is kept
	{StateStopped, "start", "boot", StateStopped},
	{StateStopped, "start", "running", StateRunning},
	{StateRunning, "stop", "stop", StateRunning}, // the guest had not been told
	{StateRunning, "stop", "stop-machine", StateStopped},
	{StateRunning, "kill", "kill", StateStopped},
	{StateRunning, "kill", "kill-machine", StateStopped},
	{StateRunning, "restart", "stop-machine", StateStopped},
	{StateRunning, "restart", "boot", StateStopped},
	{StateRunning, "pause", "pause", StateRunning},
	{StatePaused, "resume", "resume", StatePaused},
	{StatePaused, "stop", "stop-machine", StateStopped},
	{StateRunning, "update", "update", StateRunning},
	{StateRunning, "update", "updated", StateRunning},
	{StateRunning, "snapshot", "save", StateRunning},
	{StateRunning, "snapshot", "snapshot", StateRunning},
	{StateRunning, "snapshot", "snapshot-published", StateRunning},
	{StatePaused, "snapshot", "save", StatePaused},
	{StateRunning, "fork", "save", StateRunning},
	{StateRunning, "fork", "snapshot-published", StateRunning},
	{StateRunning, "fork", "record", StateRunning},
	{StateRunning, "fork", "machine", StateRunning},
	{StateRunning, "fork", "boot", StateRunning},
	{StateRunning, "delete", "deleted", StateDeleted},
	{StateRunning, "delete", "deleted-machine", StateDeleted},
	{StateStopped, "delete", "deleted", StateDeleted},
}

// TestKilledManager kills the manager at every step of every change: the next
// one ends it or undoes it, the record is true, and the sandbox is of use.
func TestKilledManager(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes too long for -short")
	}
	image := testImage(t)
	for _, c := range lives {
		t.Run(fmt.Sprintf("%s %s at %s", c.was, c.do, c.at), func(t *testing.T) {
			dir := t.TempDir()
			m, err := openFake(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			sb := create(t, m, CreateOptions{Image: image, Name: "box"})
			switch c.was {
			case StateStopped:
				err = sb.Stop(t.Context(), time.Second)
			case StatePaused:
				err = sb.Pause(t.Context())
			}
			if err = errors.Join(err, m.Close()); err != nil {
				t.Fatal(err)
			}
			killDoing(t, c.do, c.at, dir, image, "")
			next := newManager(t, dir)
			afterKill(t, next, c.is, c.at == "updated")
			shots := 0
			if c.do == "snapshot" && c.at == "snapshot-published" {
				shots = 1 // a snapshot is there whole or not at all
			}
			if list, err := next.Snapshots(t.Context(), SnapshotListOptions{All: true}); err != nil || len(list) != shots {
				t.Errorf("snapshots: %+v %v, want %d", list, err, shots)
			}
		})
	}
}

// afterKill looks at the sandbox "box" as a new manager found it.
func afterKill(t *testing.T, m *Manager, want State, updated bool) {
	t.Helper()
	ctx := t.Context()
	if left, err := m.Cleanup(ctx, true); err != nil || len(left) > 0 {
		t.Errorf("left to clean up: %+v %v", left, err)
	}
	sb, err := m.Get(ctx, "box")
	if want == StateDeleted {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("it should be gone: %v", err)
		}
		nothingLeft(t, m.Storage())
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := sb.Info(ctx)
	if err != nil || info.Status != want || info.Doing != "" {
		t.Fatalf("it is %s (%s, doing %q), want %s: %v", info.Status, info.Reason, info.Doing, want, err)
	}
	if _, is := info.Metadata["is"]; is != updated {
		t.Errorf("its metadata: %v", info.Metadata)
	}
	found, err := m.driver.Find(ctx, m.Storage())
	if runs := want == StateRunning || want == StatePaused; err != nil || runs != (len(found) == 1) || len(found) > 1 {
		t.Errorf("%s with machines %+v %v", want, found, err)
	}
	switch want {
	case StateStopped:
		err = sb.Start(ctx)
	case StatePaused:
		err = sb.Resume(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := sb.Shell("echo alive").Output(ctx); err != nil || string(out) != "alive\n" {
		t.Errorf("a program in it: %q %v", out, err)
	}
}

// TestUpgrade: the sandboxes of a manager that was killed run on, and the next
// one runs programs in them.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir, image := t.TempDir(), testImage(t)
	killDoing(t, "create to stay", "running", dir, image, "")
	afterKill(t, newManager(t, dir), StateRunning, false)
}

// TestOneOwner: a second manager is refused and told whose the directory is;
// kill -9 of the owner frees it at once.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	dir, image := t.TempDir(), testImage(t)
	killDoing(t, "create to stay", "running", dir, image, "")
	for _, shared := range []bool{false, true} {
		owner := dying("hold", "never", dir, image, "")
		out, err := owner.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := owner.Start(); err != nil {
			t.Fatal(err)
		}
		bufio.NewReader(out).ReadString('\n')
		_, err = openFakeWith(t.Context(), Config{Storage: dir, Shared: shared})
		refusedFor(t, err, owner.Process.Pid)
		if err := owner.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = owner.Wait()
		m, err := openFakeWith(t.Context(), Config{Storage: dir, Shared: shared})
		if err != nil {
			t.Fatalf("after its owner's death: %v", err)
		}
		if shared {
			_, err := openFake(t.Context(), dir)
			refusedFor(t, err, m.store.Self().PID)
			more, err := openFakeWith(t.Context(), Config{Storage: dir, Shared: true})
			if err != nil {
				t.Fatalf("two that share: %v", err)
			}
			more.Close()
			shut(t, m)
			continue
		}
		afterKill(t, m, StateRunning, false)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func refusedFor(t *testing.T, err error, pid int) {
	t.Helper()
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), fmt.Sprintf("process %d (", pid)) {
		t.Errorf("in use by %d: %v", pid, err)
	}
}

// TestManyManagersOneDirectory: names and records stay whole when several
// processes' managers write them at once; the reference lost updates.
func TestManyManagersOneDirectory(t *testing.T) {
	t.Parallel()
	dir, image := t.TempDir(), testImage(t)
	made := make(chan error)
	const managers = 4
	for range managers {
		m := newSharedManager(t, dir)
		go func() {
			_, err := m.Create(context.Background(), CreateOptions{Image: image, Name: "only-one"})
			made <- err
		}()
	}
	won := 0
	for range managers {
		if err := <-made; err == nil {
			won++
		} else if !errors.Is(err, ErrConflict) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d sandboxes have one name", won)
	}
}
