package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

// states makes an event of each new state.
func states(old, new *Sandbox) []Event {
	switch {
	case old == nil:
		return []Event{{Type: "new", Sandbox: new.ID}}
	case new == nil:
		return []Event{{Type: "gone", Sandbox: old.ID}}
	case old.State != new.State:
		return []Event{{Type: old.State + "→" + new.State, Sandbox: new.ID}}
	}
	return nil
}

func eventTypes(t *testing.T, s *Store, after int64) string {
	t.Helper()
	list, err := s.Events(t.Context(), after, 100)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for i, e := range list {
		if e.ID != after+int64(i)+1 {
			t.Errorf("event %d has id %d", i, e.ID)
		}
		types = append(types, e.Type)
	}
	return strings.Join(types, " ")
}

func TestEventsGoWithTheirRows(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.Derive(states)
	news := s.News()
	sb := insert(t, s, "one")
	select {
	case <-news:
	default:
		t.Error("readers were not told")
	}
	s.Note(Event{Type: "noted", Sandbox: sb.ID})
	sb.State = "stopped"
	if err := s.Update(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	// What fails leaves no event, and loses none that was noted.
	s.Note(Event{Type: "kept"})
	other := insert(t, s, "two")
	other.Name, other.State = "one", "other"
	wantCode(t, s.Update(t.Context(), other), wire.Conflict)
	wantCode(t, s.Update(t.Context(), Sandbox{ID: NewID(), Record: []byte("{}")}), wire.NotFound)
	for range 2 {
		if err := s.Remove(t.Context(), sb.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := eventTypes(t, s, 0), "new noted running→stopped kept new gone"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	s.Note(Event{Type: "last", Details: map[string]string{"long": strings.Repeat("x", 1<<20), "bad": "\xff"}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	list, err := s.Events(t.Context(), 6, 2)
	if err != nil || len(list) != 1 || list[0].Type != "last" || len(list[0].Details["long"]) != maxDetail {
		t.Errorf("after a close: %d events, %v", len(list), err)
	}
	if id, err := s.LastEvent(t.Context()); err != nil || id != 7 {
		t.Errorf("the last id is %d, %v", id, err)
	}
}

// TestEventsAreBounded also holds ids to growing by one, whatever was removed.
func TestEventsAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	const total = KeptEvents + 3*trimEvery
	for done := 0; done < total; {
		for range 500 {
			if done++; done <= total {
				s.Note(Event{Type: fmt.Sprint(done)})
			}
		}
		insert(t, s, "") // writes what was noted
	}
	last, err := s.LastEvent(t.Context())
	if err != nil || last != total {
		t.Fatalf("the last id is %d, %v", last, err)
	}
	list, err := s.Events(t.Context(), 0, total)
	if err != nil || len(list) < KeptEvents || len(list) > KeptEvents+trimEvery {
		t.Fatalf("%d events are kept, %v", len(list), err)
	}
	for i, e := range list {
		if want := total - int64(len(list)) + int64(i) + 1; e.ID != want || e.Type != fmt.Sprint(want) {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
}
