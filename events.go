package bandsox

import (
	"context"
	"encoding/json"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// Event is one thing that happened to a sandbox. Ids grow by one from each
// event of a state directory to the next.
type Event = store.Event

// The types of events.
const (
	EventCreated        = "created" // its record is there; details: image
	EventReady          = "ready"   // programs can be run in it: after a create, after a start
	EventPaused         = "paused"  // details: reason, unless someone asked for it
	EventResumed        = "resumed"
	EventStopped        = "stopped"
	EventFailed         = "failed" // details: reason
	EventDeleted        = "deleted"
	EventRenamed        = "renamed"         // details: from
	EventUpdated        = "updated"         // details: changed, the names of the changed fields
	EventProcessStarted = "process_started" // details: process, argv; started, if that is told late
	EventProcessExited  = "process_exited"  // details: process, exit_code, signal, timeout; ended, if that is told late. Or process and reason: its machine ended
	EventOOM            = "oom"             // details: process, mem_mib
	EventSnapshot       = "snapshot"        // one was taken of it; details: snapshot, snapshot_name
	EventGap            = "gap"             // events that are no longer kept; details: lost, their number
)

// EventTypes are all the types of events there are.
func EventTypes() []string {
	return []string{EventCreated, EventReady, EventPaused, EventResumed, EventStopped, EventFailed, EventDeleted, EventRenamed,
		EventUpdated, EventProcessStarted, EventProcessExited, EventOOM, EventSnapshot, EventGap}
}

// EventsFromNow asks for the events that are yet to come.
const EventsFromNow = -1

const (
	eventBatch = 256
	// eventPoll is how often what other processes have written is looked for.
	eventPoll = 500 * time.Millisecond
)

// Events yields the events after the one with this id, in order, and goes on
// with new ones until ctx ends, whose error is the last thing it yields. 0
// begins with the oldest kept, EventsFromNow with the next. Where events are
// missing because they are no longer kept (the last 10,000 are), one of type
// EventGap takes their place. An id that was never given is ErrInvalid.
func (m *Manager) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return m.events(ctx, after, true)
}

// LastEvent is the id of the newest event, 0 if there was none yet.
func (m *Manager) LastEvent(ctx context.Context) (int64, error) {
	id, err := m.store.LastEvent(ctx)
	return id, fail("events", "", err)
}

// PastEvents is Events that ends with the newest one there is.
func (m *Manager) PastEvents(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return m.events(ctx, after, false)
}

func (m *Manager) events(ctx context.Context, after int64, follow bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		last, err := m.store.LastEvent(ctx)
		next := after
		switch {
		case err == nil && after == EventsFromNow:
			next = last
		case err == nil && (after < 0 || after > last):
			err = wire.Errorf(CodeInvalid, "there is no event %d: the newest is %d", after, last).WithHint("begin again: bandsox events --after 0")
		}
		for err == nil {
			news := m.store.News() // before looking: what comes after the look is told
			var list []Event
			if list, err = m.store.Events(ctx, next, eventBatch); err != nil {
				break
			}
			for _, e := range list {
				if lost := e.ID - next - 1; lost > 0 && !yield(gap(e, lost), nil) || !yield(e, nil) {
					return
				}
				next = e.ID
			}
			switch {
			case len(list) > 0:
			case !follow:
				return
			default:
				err = await(ctx, news)
			}
		}
		yield(Event{}, fail("events", "", err))
	}
}

func await(ctx context.Context, news <-chan struct{}) error {
	select {
	case <-news:
	case <-time.After(eventPoll):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// gap stands for the events before e. Its id is that of the last of them.
func gap(e Event, lost int64) Event {
	return Event{ID: e.ID - 1, Time: e.Time, Type: EventGap, Details: map[string]string{"lost": strconv.FormatInt(lost, 10)}}
}

// stateEvents is what a changed record tells. The store writes it together
// with the record.
func stateEvents(old, new *store.Sandbox) []Event {
	switch {
	case new == nil:
		return []Event{event(old, EventDeleted, nil)}
	case old == nil:
		info, _ := decode(*new)
		return []Event{event(new, EventCreated, map[string]string{"image": info.Image})}
	}
	var list []Event
	if old.Name != new.Name {
		list = append(list, event(new, EventRenamed, map[string]string{"from": old.Name}))
	}
	if old.State == new.State {
		if fields := changed(old.Record, new.Record); fields != "" {
			list = append(list, event(new, EventUpdated, map[string]string{"changed": fields}))
		}
		return list
	}
	info, _ := decode(*new)
	var why map[string]string
	if info.Reason != "" {
		why = map[string]string{"reason": info.Reason}
	}
	switch info.Status {
	case StateRunning:
		if State(old.State) == StatePaused {
			return append(list, event(new, EventResumed, nil))
		}
		return append(list, event(new, EventReady, nil))
	case StatePaused:
		return append(list, event(new, EventPaused, why))
	case StateStopped:
		return append(list, event(new, EventStopped, nil))
	case StateFailed:
		return append(list, event(new, EventFailed, why))
	}
	return list
}

func event(row *store.Sandbox, kind string, details map[string]string) Event {
	return Event{Type: kind, Sandbox: row.ID, Name: row.Name, Details: details}
}

// updatable are the fields of a record that someone changes because they want
// to, and not because something happened.
var updatable = []string{"metadata", "env_vars", "vcpu", "mem_mib", "disk_size_mib", "labels", "idle_timeout_ns", "idle_action", "expires_at"}

// changed names the updatable fields that differ.
func changed(old, new []byte) string {
	var a, b map[string]any
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(new, &b) != nil {
		return ""
	}
	var fields []string
	for _, f := range updatable {
		if !reflect.DeepEqual(a[f], b[f]) {
			fields = append(fields, f)
		}
	}
	return strings.Join(fields, " ")
}

// note tells of something that no record shows.
func (sb *Sandbox) note(kind string, details map[string]string) {
	sb.m.store.Note(sb.event(kind, details))
}

func (sb *Sandbox) event(kind string, details map[string]string) Event {
	return Event{Type: kind, Sandbox: sb.id, Name: sb.known().Name, Details: details}
}
