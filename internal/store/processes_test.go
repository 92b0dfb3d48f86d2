package store

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestProcessesAreToldOnce: of several stores, as of several processes, each
// may tell; what was told before, or of a sandbox that is gone, isn't again.
func TestProcessesAreToldOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sb := insert(t, s, "one")
	start := func(s *Store, id string) { s.NoteStart(id, Event{Type: "start", Sandbox: sb.ID}) }
	end := func(s *Store, id string) {
		s.NoteEnd(id, Event{Type: "oom", Sandbox: sb.ID}, Event{Type: "end", Sandbox: sb.ID})
	}
	for range 3 {
		start(s, "a")
		end(s, "a")
		end(s, "never started")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		end(s, "a")
		end(s, "b")
		start(s, "b")
		if err := s.Update(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
	}
	end(s, "b")
	if err := s.Update(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if got, want := eventTypes(t, s, 0), "start oom end start oom end"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	// Another boot: the same id would be another process.
	if err := s.ForgetProcesses(t.Context(), sb.ID); err != nil {
		t.Fatal(err)
	}
	start(s, "a")
	if err := s.Remove(t.Context(), sb.ID); err != nil { // what was noted comes first
		t.Fatal(err)
	}
	end(s, "a")
	start(s, "c")
	insert(t, s, "two")
	if got, want := eventTypes(t, s, 6), "start"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	var left int
	if err := s.db.QueryRow(`SELECT COUNT(*) FROM processes`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d processes of a removed sandbox are left, %v", left, err)
	}
}

// TestProcessesToldOfAreBounded, but those that run are remembered however many
// have ended since.
func TestProcessesToldOfAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	sb := insert(t, s, "")
	s.NoteStart("runs", Event{Type: "start", Sandbox: sb.ID})
	for i := range 2 * keptEnds {
		id := fmt.Sprint(i)
		s.NoteStart(id, Event{Type: "start", Sandbox: sb.ID})
		s.NoteEnd(id, Event{Type: "end", Sandbox: sb.ID})
		if i%500 == 0 {
			if err := s.Update(t.Context(), sb); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Nanosecond) // so that each ends at a time of its own
	}
	s.NoteStart("runs", Event{Type: "again", Sandbox: sb.ID})
	s.NoteStart(fmt.Sprint(2*keptEnds-1), Event{Type: "again", Sandbox: sb.ID})
	if err := s.Update(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	var kept int
	if err := s.db.QueryRow(`SELECT COUNT(*) FROM processes`).Scan(&kept); err != nil || kept > keptEnds+1 {
		t.Errorf("%d processes are remembered, %v", kept, err)
	}
	list, err := s.Events(t.Context(), 0, 10*keptEnds)
	if err != nil || len(list) != 4*keptEnds+1 {
		t.Errorf("%d events, %v", len(list), err)
	}
	for _, e := range list {
		if strings.Contains(e.Type, "again") {
			t.Errorf("told again: %+v", e)
		}
	}
}

// TestMachineEnds: all processes that ran end with the machine, once; how one
// ended that was noted before stays as it was.
func TestMachineEnds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sb, other := insert(t, s, "one"), insert(t, s, "two")
	for i := range maxEnds / 2 {
		s.NoteStart(fmt.Sprint(i), Event{Type: "start", Sandbox: sb.ID})
	}
	s.NoteStart("x", Event{Type: "start", Sandbox: other.ID})
	s.NoteEnd("7", Event{Type: "end", Sandbox: sb.ID})
	for range 2 {
		err := s.UpdateEnded(t.Context(), sb, func(id string) Event {
			return Event{Type: "lost", Sandbox: sb.ID, Details: map[string]string{"process": id}}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
	s.NoteEnd("8", Event{Type: "end", Sandbox: sb.ID}) // too late
	if err := s.Update(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	list, err := s.Events(t.Context(), 0, KeptEvents)
	if err != nil {
		t.Fatal(err)
	}
	count, of := map[string]int{}, map[string]int{}
	for _, e := range list {
		count[e.Type]++
		if e.Type == "lost" {
			of[e.Details["process"]]++
		}
	}
	if count["lost"] != maxEnds/2-1 || len(of) != maxEnds/2-1 || count["end"] != 1 || of["7"] != 0 || of["x"] != 0 {
		t.Errorf("%v, of %d", count, len(of))
	}
}
