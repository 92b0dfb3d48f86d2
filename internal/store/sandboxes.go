package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/bandsox/bandsox/internal/wire"
)

// Insert adds a sandbox's row. It is a conflict when the name is taken.
func (s *Store) Insert(ctx context.Context, sb Sandbox) error {
	err := s.change(ctx, func(tx *sql.Tx) ([]Event, error) {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO sandboxes (id, name, state, owner_pid, owner_start, created, record) VALUES (?,?,?,?,?,?,?)`,
			sb.ID, null(sb.Name), sb.State, sb.Owner.PID, int64(sb.Owner.StartTime), sb.Created.UnixNano(), sb.Record)
		return s.derived(nil, &sb), err
	})
	return rowError("recording", sb, err)
}

// Update replaces what may change of a sandbox's row.
func (s *Store) Update(ctx context.Context, sb Sandbox) error { return s.UpdateEnded(ctx, sb, nil) }

// UpdateEnded is Update for a sandbox whose machine has ended: every process of
// it whose end was not told gets the event that ended makes.
func (s *Store) UpdateEnded(ctx context.Context, sb Sandbox, ended func(process string) Event) error {
	err := s.change(ctx, func(tx *sql.Tx) ([]Event, error) {
		old, err := find(ctx, tx, sb.ID)
		if err != nil {
			return nil, err
		}
		_, err = tx.ExecContext(ctx,
			`UPDATE sandboxes SET name=?, state=?, owner_pid=?, owner_start=?, record=? WHERE id=?`,
			null(sb.Name), sb.State, sb.Owner.PID, int64(sb.Owner.StartTime), sb.Record, sb.ID)
		var ends []Event
		if err == nil && ended != nil {
			ends, err = endAll(ctx, tx, sb.ID, ended)
		}
		return append(ends, s.derived(&old, &sb)...), err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return NotFound(sb.ID)
	}
	return rowError("recording", sb, err)
}

// Remove forgets a sandbox. Forgetting an unknown one is no error.
func (s *Store) Remove(ctx context.Context, id string) error {
	err := s.change(ctx, func(tx *sql.Tx) ([]Event, error) {
		old, err := find(ctx, tx, id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM sandboxes WHERE id=?`, id)
		}
		return s.derived(&old, nil), err
	})
	return rowError("forgetting", Sandbox{ID: id}, err)
}

// derived is the events of a changed row.
func (s *Store) derived(old, new *Sandbox) []Event {
	if s.journal.derive == nil {
		return nil
	}
	return s.journal.derive(old, new)
}

func find(ctx context.Context, tx *sql.Tx, id string) (Sandbox, error) {
	return scan(tx.QueryRowContext(ctx,
		`SELECT id, name, state, owner_pid, owner_start, created, record FROM sandboxes WHERE id=?`, id))
}

// Find returns the sandbox of this id or name.
func (s *Store) Find(ctx context.Context, ref string) (Sandbox, error) {
	row := s.db.QueryRowContext(ctx,
		`SELECT id, name, state, owner_pid, owner_start, created, record FROM sandboxes WHERE id=? OR name=? ORDER BY id=? DESC LIMIT 1`,
		ref, ref, ref)
	sb, err := scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return sb, NotFound(ref)
	}
	return sb, rowError("reading", Sandbox{ID: ref}, err)
}

// Begun returns the one sandbox whose id begins with prefix.
func (s *Store) Begun(ctx context.Context, prefix string) (Sandbox, error) {
	row := s.db.QueryRowContext(ctx,
		`SELECT min(id), count(*) FROM sandboxes WHERE substr(id, 1, length(?))=?`, prefix, prefix)
	var id sql.NullString
	var count int
	switch err := row.Scan(&id, &count); {
	case err != nil:
		return Sandbox{}, rowError("reading", Sandbox{ID: prefix}, err)
	case count == 0:
		return Sandbox{}, NotFound(prefix)
	case count > 1:
		return Sandbox{}, Ambiguous(prefix)
	}
	return s.Find(ctx, id.String)
}

// List returns every sandbox, the newest first.
func (s *Store) List(ctx context.Context) ([]Sandbox, error) {
	rows, err := s.db.QueryContext(ctx,
		`SELECT id, name, state, owner_pid, owner_start, created, record FROM sandboxes ORDER BY created DESC, id`)
	if err != nil {
		return nil, wire.Errorf(wire.Internal, "listing sandboxes: %w", err)
	}
	defer rows.Close()
	var list []Sandbox
	for rows.Next() {
		sb, err := scan(rows)
		if err != nil {
			return nil, wire.Errorf(wire.Internal, "listing sandboxes: %w", err)
		}
		list = append(list, sb)
	}
	return list, rows.Err()
}

func scan(row interface{ Scan(...any) error }) (Sandbox, error) {
	var sb Sandbox
	var name sql.NullString
	var start, created int64
	err := row.Scan(&sb.ID, &name, &sb.State, &sb.Owner.PID, &start, &created, &sb.Record)
	sb.Name, sb.Owner.StartTime, sb.Created = name.String, uint64(start), time.Unix(0, created)
	return sb, err
}

func null(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// NotFound is the error of a sandbox that is not there.
func NotFound(ref string) error {
	return wire.Errorf(wire.NotFound, "no sandbox %q", ref).WithHint("list them: bandsox ps -a")
}

// Ambiguous is the error of the beginning of several ids.
func Ambiguous(ref string) error {
	return wire.Errorf(wire.Conflict, "several sandboxes' ids begin with %q", ref).WithHint("give more of the id: bandsox ps -a")
}

func rowError(doing string, sb Sandbox, err error) error {
	if err == nil {
		return nil
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
			return wire.Errorf(wire.Conflict, "the name %q is taken", sb.Name).WithHint("choose another, or: bandsox rm %s", sb.Name)
		case sqlite3.SQLITE_FULL:
			return wire.Errorf(wire.Exhausted, "%s sandbox %q: the disk is full", doing, sb.ID)
		}
	}
	return wire.Errorf(wire.Internal, "%s sandbox %q: %w", doing, sb.ID, err)
}
