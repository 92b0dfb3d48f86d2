package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the database driver "sqlite"

	"github.com/bandsox/bandsox/internal/wire"
)

// Store is an open state directory.
type Store struct {
	Layout
	db   *sql.DB
	lock *FileLock
	self Owner

	write   chan struct{} // full while this process changes rows
	journal journal
}

// Sandbox is one sandbox's row. Record is the library's own JSON.
type Sandbox struct {
	ID      string
	Name    string // "" for none
	State   string
	Owner   Owner
	Created time.Time
	Record  []byte
}

const schema = `
CREATE TABLE IF NOT EXISTS sandboxes (
	id          TEXT PRIMARY KEY,
	name        TEXT UNIQUE,
	state       TEXT NOT NULL,
	owner_pid   INTEGER NOT NULL,
	owner_start INTEGER NOT NULL,
	created     INTEGER NOT NULL,
	record      BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS images (
	ref    TEXT PRIMARY KEY,
	digest TEXT NOT NULL,
	pulled INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS images_digest ON images(digest);
PRAGMA user_version = 3;`

const version = 3

// Open opens the state directory dir, making it if it is not there: alone, or
// shared with others that share it. It is a conflict when others have it open.
func Open(ctx context.Context, dir string, shared bool) (*Store, error) {
	l := Layout(dir)
	if err := l.make(); err != nil {
		e := wire.Errorf(wire.Denied, "opening the state directory: %w", err)
		if errors.Is(err, unix.ENOSPC) {
			e.Code = wire.Exhausted
		}
		return nil, e.WithHint("name a directory you may write with --storage or BANDSOX_STORAGE")
	}
	lk, err := l.own(ctx, shared)
	if errors.Is(err, ErrLocked) {
		return nil, l.ownedError()
	}
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "opening the state directory %s: %w", dir, err).
			WithHint("name a directory of your own with --storage or BANDSOX_STORAGE")
	}
	s := &Store{Layout: l, lock: lk, self: Self(), write: make(chan struct{}, 1)}
	if err = s.open(ctx); err != nil && diskFull(dir) {
		_ = os.Remove(l.Reserve())
		err = s.open(ctx)
	}
	if err != nil {
		lk.Unlock()
		if diskFull(dir) {
			return nil, wire.Errorf(wire.Exhausted, "opening %s: the disk is full: %w", l.Database(), err).WithHint("free some space there: df -h %s", dir)
		}
		return nil, wire.Errorf(wire.Internal, "opening %s: %w", l.Database(), err)
	}
	s.KeepReserve()
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := os.MkdirAll(s.Scratch(), 0o700); err != nil {
		return err
	}
	return s.openDB(ctx)
}

// reserveBytes is more than the database needs to be opened and to forget a
// few rows.
const reserveBytes = 1 << 20

// reserve makes the reserve, unless it is there or there is little room.
func (s *Store) reserve() error {
	if _, err := os.Lstat(s.Reserve()); err == nil || diskFull(s.Dir()) {
		return err
	}
	// Zeros may take no room, where a file system compresses, or a copy has holes.
	b := make([]byte, reserveBytes)
	rand.Read(b)
	return s.WriteFile(s.Reserve(), b)
}

// KeepReserve makes the reserve if it is not there. On a full disk there is none
// to be had.
func (s *Store) KeepReserve() { _ = s.reserve() }

// GiveUpReserve makes room on a full disk, and says whether there was any to make.
// What must be written down may then be.
func (s *Store) GiveUpReserve() bool { return os.Remove(s.Reserve()) == nil }

// diskFull reports whether there is no room for what the database may need.
func diskFull(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && int64(st.Bavail)*st.Bsize < reserveBytes
}

func (s *Store) openDB(ctx context.Context) error {
	q := url.Values{
		"_pragma": {"journal_mode(WAL)", "synchronous(full)", "busy_timeout(5000)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(s.Database())+"?"+q.Encode())
	if err != nil {
		return err
	}
	var v int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		db.Close()
		return err
	}
	switch {
	case v > version:
		err = fmt.Errorf("written by a newer BandSox (format %d, this one knows %d)", v, version)
	case v < version:
		_, err = db.ExecContext(ctx, eventSchema+processSchema+schema)
	}
	if err != nil {
		db.Close()
		return err
	}
	s.db = db
	return os.Chmod(s.Database(), 0o600)
}

// Close gives the directory up.
func (s *Store) Close() error {
	s.flush()
	// Two stores of one process share the scratch directory: only an empty one goes.
	_ = os.Remove(s.Scratch())
	return errors.Join(s.db.Close(), s.lock.Unlock())
}

// Scratch is this process's directory for files that are being written. It is
// on the file system of everything else, so that what is whole can be renamed
// into its place; what a killed process leaves there is swept.
func (s *Store) Scratch() string { return filepath.Join(s.ScratchDirs(), s.self.String()) }

// DeadScratch returns the scratch directories of processes that are no more.
func (s *Store) DeadScratch() ([]string, error) {
	entries, err := os.ReadDir(s.ScratchDirs())
	if err != nil {
		return nil, err
	}
	var dead []string
	for _, e := range entries {
		if o, ok := parseOwner(e.Name()); !ok || !o.Alive() {
			dead = append(dead, filepath.Join(s.ScratchDirs(), e.Name()))
		}
	}
	return dead, nil
}

// Self is the process as which this store writes.
func (s *Store) Self() Owner { return s.self }
