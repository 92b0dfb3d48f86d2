package bandsox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// story is what happened after an event: types, with the details that matter.
func story(t *testing.T, m *Manager, after int64) (list []Event, told string) {
	t.Helper()
	var words []string
	for e, err := range m.PastEvents(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
		words = append(words, e.Type)
	}
	return list, strings.Join(words, " ")
}

func TestEventsTellTheLifeOfASandbox(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	ctx := t.Context()
	sb := create(t, m, CreateOptions{Name: "box"})
	_ = sb.Shell("exit 3").Run(ctx)
	for _, do := range []func() error{
		func() error { return sb.Pause(ctx) },
		func() error { return sb.Pause(ctx) }, // nothing happens, nothing is told
		func() error { return sb.Resume(ctx) },
		func() error { return sb.Update(ctx, Update{Name: new("crate")}) },
		func() error { return sb.Stop(ctx, 0) },
		func() error { return sb.Start(ctx) },
		func() error { return sb.Kill(ctx) },
		func() error { return sb.Delete(ctx) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	list, told := story(t, m, 0)
	const want = "created ready process_started process_exited paused resumed renamed stopped ready stopped deleted"
	if told != want {
		t.Fatalf("got %s\nwant %s", told, want)
	}
	for i, e := range list {
		name := "box"
		if i >= 6 {
			name = "crate"
		}
		if e.ID != int64(i+1) || e.Sandbox != sb.ID() || e.Name != name || time.Since(e.Time) > time.Hour {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	if d := list[2].Details; d["argv"] != "/bin/sh -c exit 3" || d["process"] == "" {
		t.Errorf("process_started: %v", d)
	}
	if d := list[3].Details; d["exit_code"] != "3" || d["process"] != list[2].Details["process"] {
		t.Errorf("process_exited: %v", d)
	}
	if d := list[6].Details; d["from"] != "box" {
		t.Errorf("renamed: %v", d)
	}
	if _, told := story(t, m, 9); told != "stopped deleted" {
		t.Errorf("resumed after 9: %s", told)
	}
	for _, after := range []int64{12, -2} {
		for _, err := range m.Events(ctx, after) {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("after %d: %v", after, err)
			}
		}
	}
}

func TestEventsSayWhyACreateFailed(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	if _, err := m.Create(t.Context(), CreateOptions{Image: "dir:" + filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Fatal("made from nothing")
	}
	list, told := story(t, m, 0)
	if told != "created failed deleted" || !strings.Contains(list[1].Details["reason"], "none") {
		t.Errorf("%s: %+v", told, list)
	}
}

// TestEventsAreFollowed has several readers, one of them as another process
// would read: of another manager.
func TestEventsAreFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newSharedManager(t, dir)
	create(t, m, CreateOptions{})
	var wg sync.WaitGroup
	ready := make(chan struct{}, 3)
	ctx, cancel := context.WithCancel(t.Context())
	for _, reader := range []*Manager{m, m, newSharedManager(t, dir)} {
		wg.Go(func() {
			var got []string
			for e, err := range reader.Events(ctx, 1) {
				if err != nil {
					if !errors.Is(err, context.Canceled) || strings.Join(got, " ") != "ready created ready" {
						t.Errorf("got %v, %v", got, err)
					}
					return
				}
				if got = append(got, e.Type); len(got) == 1 || len(got) == 3 {
					ready <- struct{}{}
				}
			}
			t.Error("ended without an error")
		})
	}
	for range 3 {
		<-ready
	}
	create(t, m, CreateOptions{})
	for range 3 {
		<-ready
	}
	cancel()
	wg.Wait()
}

func TestEventsFromNow(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	sb.note("before", nil)
	if err := sb.Pause(t.Context()); err != nil { // writes that down, too
		t.Fatal(err)
	}
	next, stop := iter.Pull2(m.Events(t.Context(), EventsFromNow))
	defer stop()
	go func() {
		for t.Context().Err() == nil { // the reader may not have begun
			sb.note("after", nil)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if e, err, ok := next(); !ok || err != nil || e.Type != "after" {
		t.Errorf("got %+v %v", e, err)
	}
}

func TestEventsShowGaps(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	for range 21 {
		for range 500 {
			sb.note("noise", nil)
		}
		if err := sb.save(t.Context(), func(*Info) {}); err != nil { // writes what was noted
			t.Fatal(err)
		}
	}
	for _, after := range []int64{0, 100} {
		list, _ := story(t, m, after)
		first, second := list[0], list[1]
		if lost := fmt.Sprint(first.ID - after); first.Type != EventGap || first.Details["lost"] != lost || second.ID != first.ID+1 || second.Type != "noise" {
			t.Errorf("after %d: %+v %+v", after, first, second)
		}
		if again, _ := story(t, m, first.ID); again[0].ID != second.ID {
			t.Errorf("after the gap: %+v", again[0])
		}
	}
}
