package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Event is one thing that happened. Ids grow by one from each event to the
// next and are never given twice, so that a reader sees by the ids alone
// whether it missed some.
type Event struct {
	ID      int64             `json:"id"`
	Time    time.Time         `json:"time"`
	Type    string            `json:"type"`
	Sandbox string            `json:"sandbox,omitempty"` // its id
	Name    string            `json:"name,omitempty"`    // its name then
	Details map[string]string `json:"details,omitempty"`
}

const (
	// KeptEvents is how many events are kept; some of the older ones may be
	// there, too.
	KeptEvents = 10_000
	trimEvery  = 128
	// maxDetail bounds one detail. A guest's last words may be long.
	maxDetail = 1 << 10
	// maxPending is how many events wait for a disk that takes none. Then the
	// oldest are dropped.
	maxPending = 2_000
	// linger is how long a noted event may wait for company: one flush of the
	// disk then does for them all.
	linger = 20 * time.Millisecond
)

// Events are rows of the database, not lines of a file beside it, so that one
// that tells of a record's change is written with it or not at all.
const eventSchema = `
CREATE TABLE IF NOT EXISTS events (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	time    INTEGER NOT NULL,
	type    TEXT NOT NULL,
	sandbox TEXT NOT NULL,
	name    TEXT NOT NULL,
	details TEXT NOT NULL
) STRICT;`

// journal is the events that are not written yet, and who waits for new ones.
type journal struct {
	derive func(old, new *Sandbox) []Event

	mu      sync.Mutex
	pending []note
	closed  bool
	writing bool // a goroutine is about to write
	wg      sync.WaitGroup
	closing chan struct{} // closed by flush; nil before the first note
	news    chan struct{} // closed when there are new ones
}

// Derive sets what makes the events of a changed row: nil old is a new row,
// nil new one that goes. Call it before the first change.
func (s *Store) Derive(f func(old, new *Sandbox) []Event) { s.journal.derive = f }

// Note writes an event down soon. It neither waits nor fails: what a crash
// within the next moment, or a full disk, costs is this event and no more.
// It comes before the events of every row that is changed after it.
func (s *Store) Note(e Event) { s.note(note{events: []Event{e}}) }

func (s *Store) note(n note) {
	n.stamp(time.Now())
	j := &s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	j.pending = append(j.pending, n)
	if over := len(j.pending) - maxPending; over > 0 {
		j.pending = j.pending[over:]
	}
	if j.writing {
		return
	}
	j.writing = true
	if j.closing == nil {
		j.closing = make(chan struct{})
	}
	j.wg.Go(func() {
		for more := true; more; {
			select {
			case <-time.After(linger):
			case <-j.closing: // a command is not kept from ending
			}
			err := s.change(context.Background(), func(*sql.Tx) ([]Event, error) { return nil, nil })
			j.mu.Lock()
			// What failed is tried again with the next note, or change.
			more = err == nil && len(j.pending) > 0
			j.writing = more
			j.mu.Unlock()
		}
	})
}

// change runs f in a transaction, writes what was noted before and the events
// that f returns, and tells the readers.
func (s *Store) change(ctx context.Context, f func(*sql.Tx) ([]Event, error)) error {
	j := &s.journal
	// In turn: SQLite would have those that wait sleep and try again, each on a
	// connection of its own, and give up in the end.
	select {
	case s.write <- struct{}{}:
		defer func() { <-s.write }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// Taken after the write lock is ours: the order of notes is that of rows.
	j.mu.Lock()
	noted := j.pending
	j.pending = nil
	j.mu.Unlock()
	w := &writer{tx: tx}
	told, err := insertNotes(ctx, w, noted)
	if err == nil {
		var derived []Event
		if derived, err = f(tx); err == nil {
			n := note{events: derived}
			n.stamp(time.Now())
			err = insertEvents(ctx, w, n.events)
			told = told || len(derived) > 0
		}
	}
	if err == nil {
		err = tx.Commit()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.pending = append(noted[:len(noted):len(noted)], j.pending...)
		return err
	}
	if told && j.news != nil {
		close(j.news)
		j.news = nil
	}
	return nil
}

// writer writes many rows in a transaction: what it says to the database is
// compiled once, which for a short row costs as much as to write it.
type writer struct {
	tx       *sql.Tx
	compiled map[string]*sql.Stmt // which end with the transaction
}

func (w *writer) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st := w.compiled[query]
	if st == nil {
		var err error
		if st, err = w.tx.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
		if w.compiled == nil {
			w.compiled = map[string]*sql.Stmt{}
		}
		w.compiled[query] = st
	}
	return st.ExecContext(ctx, args...)
}

func insertEvents(ctx context.Context, w *writer, events []Event) error {
	for _, e := range events {
		for k, v := range e.Details {
			if len(v) > maxDetail {
				e.Details[k] = v[:maxDetail-3] + "..."
			}
		}
		details, err := json.Marshal(e.Details) // makes valid UTF-8 of what a guest said
		if err != nil {
			return err
		}
		res, err := w.exec(ctx, `INSERT INTO events (time, type, sandbox, name, details) VALUES (?,?,?,?,?)`,
			e.Time.UnixNano(), e.Type, e.Sandbox, e.Name, string(details))
		if err != nil {
			return err
		}
		if id, err := res.LastInsertId(); err == nil && id%trimEvery == 0 {
			if _, err := w.exec(ctx, `DELETE FROM events WHERE id <= ?`, id-KeptEvents); err != nil {
				return err
			}
		}
	}
	return nil
}

// News returns a channel that is closed when this process has written events.
// Those of other processes are found by looking.
func (s *Store) News() <-chan struct{} {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if s.journal.news == nil {
		s.journal.news = make(chan struct{})
	}
	return s.journal.news
}

// Events returns at most limit of the events after this id, in order.
func (s *Store) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	rows, err := s.db.QueryContext(ctx,
		`SELECT id, time, type, sandbox, name, details FROM events WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
	if err != nil {
		return nil, wire.Errorf(wire.Internal, "reading events: %w", err)
	}
	defer rows.Close()
	var list []Event
	for rows.Next() {
		var e Event
		var at int64
		var details []byte
		err := rows.Scan(&e.ID, &at, &e.Type, &e.Sandbox, &e.Name, &details)
		if err == nil {
			err = json.Unmarshal(details, &e.Details)
		}
		if err != nil {
			return nil, wire.Errorf(wire.Internal, "reading events: %w", err)
		}
		e.Time = time.Unix(0, at)
		list = append(list, e)
	}
	return list, rows.Err()
}

// LastEvent is the id of the newest event that there ever was, 0 for none.
func (s *Store) LastEvent(ctx context.Context) (int64, error) {
	var id int64
	err := s.db.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name='events'`).Scan(&id)
	if err != nil {
		return 0, wire.Errorf(wire.Internal, "reading events: %w", err)
	}
	return id, nil
}

// flush writes what was noted and takes no more.
func (s *Store) flush() {
	j := &s.journal
	j.mu.Lock()
	if !j.closed && j.closing != nil {
		close(j.closing)
	}
	j.closed = true
	j.mu.Unlock()
	j.wg.Wait()
	j.mu.Lock()
	left := len(j.pending)
	j.mu.Unlock()
	if left > 0 {
		_ = s.change(context.Background(), func(*sql.Tx) ([]Event, error) { return nil, nil })
	}
}
