package store

import (
	"context"
	"database/sql"
	"time"
)

// keptEnds is how many processes of a sandbox, whose end was told of, are
// remembered: more than a guest remembers, so that what a guest can tell of was
// either told or is news.
const keptEnds = 512

// Which processes were told of is kept apart from the events, of which other
// sandboxes' may push these out.
const processSchema = `
CREATE TABLE IF NOT EXISTS processes (
	sandbox TEXT NOT NULL REFERENCES sandboxes(id) ON DELETE CASCADE,
	id      TEXT NOT NULL,
	ended   INTEGER NOT NULL,
	PRIMARY KEY (sandbox, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS processes_ended ON processes(sandbox, ended);`

// note is events that are to be written: at once, or if they are news.
type note struct {
	events  []Event
	process string // news if this one's start, or its end, was not told before
	end     bool
}

func (n *note) stamp(now time.Time) {
	for i := range n.events {
		n.events[i].Time = now
	}
}

// NoteStart is Note, once for each process of the event's sandbox, whoever
// notes it, in whatever process, and as long as the sandbox is there.
func (s *Store) NoteStart(process string, e Event) {
	s.note(note{events: []Event{e}, process: process})
}

// NoteEnd is NoteStart for how a process ended, whose start was noted.
func (s *Store) NoteEnd(process string, events ...Event) {
	s.note(note{events: events, process: process, end: true})
}

// ForgetProcesses forgets what was told of a sandbox's processes: its machine
// is another now.
func (s *Store) ForgetProcesses(ctx context.Context, sandbox string) error {
	err := s.change(ctx, func(tx *sql.Tx) ([]Event, error) {
		_, err := tx.ExecContext(ctx, `DELETE FROM processes WHERE sandbox=?`, sandbox)
		return nil, err
	})
	return rowError("forgetting the processes of", Sandbox{ID: sandbox}, err)
}

// maxEnds is how many processes one machine's end tells of: more than a guest
// can run.
const maxEnds = 1024

// endAll ends the processes of a sandbox that have not, and makes their events.
func endAll(ctx context.Context, tx *sql.Tx, sandbox string, event func(process string) Event) ([]Event, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id FROM processes WHERE sandbox=? AND ended=0 LIMIT ?`, sandbox, maxEnds)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Event
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, event(id))
	}
	if err := rows.Err(); err != nil || len(list) == 0 {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE processes SET ended=? WHERE sandbox=? AND ended=0`, time.Now().UnixNano(), sandbox)
	return list, err
}

// insertNotes writes what is news of the notes, and says whether any is.
func insertNotes(ctx context.Context, w *writer, notes []note) (told bool, err error) {
	for _, n := range notes {
		isNews, err := n.news(ctx, w)
		if err != nil {
			return false, err
		}
		if !isNews {
			continue
		}
		if err := insertEvents(ctx, w, n.events); err != nil {
			return false, err
		}
		told = true
	}
	return told, nil
}

func (n *note) news(ctx context.Context, w *writer) (bool, error) {
	if n.process == "" || len(n.events) == 0 {
		return true, nil
	}
	sandbox := n.events[0].Sandbox
	if !n.end {
		return changes(w.exec(ctx, `INSERT INTO processes (sandbox, id, ended)
			SELECT ?1, ?2, 0 WHERE EXISTS (SELECT 1 FROM sandboxes WHERE id=?1) ON CONFLICT DO NOTHING`, sandbox, n.process))
	}
	isNews, err := changes(w.exec(ctx, `UPDATE processes SET ended=? WHERE sandbox=? AND id=? AND ended=0`,
		n.events[0].Time.UnixNano(), sandbox, n.process))
	if err == nil && isNews {
		_, err = w.exec(ctx, `DELETE FROM processes WHERE sandbox=?1 AND ended>0 AND ended <=
			(SELECT ended FROM processes WHERE sandbox=?1 AND ended>0 ORDER BY ended DESC LIMIT 1 OFFSET ?2)`, sandbox, keptEnds)
	}
	return isNews, err
}

func changes(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}
