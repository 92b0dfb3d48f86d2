package guest

import (
	"sort"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	maxViewers = 64 // of one process

	// viewPatience is how long a viewer may hold up a process, and with it the
	// other viewers.
	viewPatience = 10 * time.Second
)

// view is one reader's place in a ring.
//
// One that reads nothing for too long while the writer waits for it is cut off,
// and told so: it may view again from where it was. To let it go on with a
// piece missing would be kinder to it and worse for whoever reads what it
// wrote. The one that started the process is never cut off while it is alone:
// it is the other end of a pipe, and `| less` may take all day.
type view struct {
	ring  *ring
	at    int64
	owner bool // it started the process
	gone  bool

	// unread, if not nil, is how many of the bytes before at may not have arrived:
	// who reads them may die, and the next one ask for them.
	unread func() int
	cut    func()    // called when the ring cuts it off; must not block
	stuck  time.Time // since when write waits for it
}

// view starts to read at offset, counted from the end if it is negative, or at
// the oldest byte kept.
func (r *ring) view(offset int64) (*view, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.views) >= maxViewers {
		return nil, wire.Errorf(wire.Exhausted, "viewing a process: %d do already, the most that may", maxViewers)
	}
	if offset < 0 {
		offset += r.end
	}
	v := &view{ring: r, at: min(max(offset, r.start), r.end)}
	r.views[v] = struct{}{}
	r.viewed++
	r.cond.Broadcast() // it may end the owner's privilege
	return v, nil
}

// wait waits until there is something to read. It returns false when there is
// nothing more, for ever, or the view was closed.
func (v *view) wait() bool {
	r := v.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	for v.at == r.end && r.exit == nil && !v.gone {
		r.cond.Wait()
	}
	return v.at < r.end && !v.gone
}

// next copies the next bytes of one kind, of which wait said that there are
// some, into buf.
func (v *view) next(buf []byte) (wire.Kind, int) {
	r := v.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.gone {
		return 0, 0
	}
	i := sort.Search(len(r.runs), func(i int) bool { return r.runs[i].end > v.at })
	n := min(len(buf), int(r.runs[i].end-v.at))
	at := int(v.at) & (len(r.buf) - 1)
	m := copy(buf[:n], r.buf[at:])
	copy(buf[m:n], r.buf)
	v.at += int64(n)
	v.stuck = time.Time{}
	r.cond.Broadcast()
	return r.runs[i].kind, n
}

// close lets the writer go on without this view.
func (v *view) close() {
	r := v.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(v)
}

// room is how many bytes can be added without a loss to any viewer.
func (r *ring) room(kind wire.Kind) int {
	room := len(r.buf)
	for v := range r.views {
		room = min(room, v.room(kind))
	}
	return room
}

// room is how many bytes can be added without a loss to v.
func (v *view) room(kind wire.Kind) int {
	r := v.ring
	if r.newRun(kind) && len(r.runs) >= ringRuns && v.at < r.runs[0].end {
		return 0
	}
	floor := v.at
	if v.unread != nil && len(r.buf) == ringLimit { // a smaller one may be less than what is always unread
		floor = max(r.start, v.at-int64(v.unread())-chunk) // a chunk: read, and not yet where it belongs
	}
	return len(r.buf) - int(r.end-floor)
}

// await waits for a change of the viewers that hold up the writer of kind, and
// cuts off those that it has waited for long enough.
func (r *ring) await(kind wire.Kind) {
	now := time.Now()
	var wake time.Time
	for v := range r.views {
		if v.room(kind) > 0 || v.owner && len(r.views) == 1 {
			v.stuck = time.Time{}
			continue
		}
		if v.stuck.IsZero() {
			v.stuck = now
		}
		if end := v.stuck.Add(r.patience); !now.Before(end) {
			r.remove(v)
			if v.cut != nil {
				v.cut()
			}
			return
		} else if wake.IsZero() || end.Before(wake) {
			wake = end
		}
	}
	if !wake.IsZero() {
		defer time.AfterFunc(wake.Sub(now), func() { r.wake(nil) }).Stop()
	}
	r.cond.Wait()
}

// wake has everybody look again; v, if any, has made progress.
func (r *ring) wake(v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v != nil {
		v.stuck = time.Time{}
	}
	r.cond.Broadcast()
}

func (r *ring) remove(v *view) {
	v.gone = true
	delete(r.views, v)
	r.cond.Broadcast()
}
