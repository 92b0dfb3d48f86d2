package auth

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	fileFormat = 2        // what we write; the reference's file has no number
	maxFile    = 16 << 20 // larger is no auth file of ours
	maxEnded   = 4096     // sessions that were ended before their time
)

// record is the auth file. The fields that the reference wrote keep its names
// and forms, so that its files go on working.
type record struct {
	Format       int            `json:"format,omitempty"`
	PasswordHash string         `json:"admin_password_hash"`
	Secret       string         `json:"session_secret"`
	Keys         []storedKey    `json:"api_keys"`
	Ended        []endedSession `json:"ended_sessions,omitempty"`
}

type storedKey struct {
	Key
	Hash string `json:"key_hash"` // SHA-256 of the key: it is random, so nothing slower is needed
}

// endedSession is a session that its owner logged out of.
type endedSession struct {
	Hash  string `json:"token_hash"`
	Until int64  `json:"until"` // when it would have ended by itself, in seconds
}

// decode reads an auth file and refuses what it doesn't understand: a file that
// is half there must not mean fewer locks on the door.
func decode(b []byte) (*record, error) {
	var r *record
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&r); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("it is cut off")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows its end")
	}
	switch {
	case r == nil:
		return nil, errors.New("it is null")
	case r.Format > fileFormat:
		return nil, errors.New("it was written by a newer bandsox")
	case !legacyHash(r.PasswordHash) && !knownHash(r.PasswordHash):
		return nil, errors.New("admin_password_hash is missing or of an unknown kind")
	case len(r.Secret) < 32:
		return nil, errors.New("session_secret is missing or too short to sign with")
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if h, err := hex.DecodeString(k.Hash); err != nil || len(h) != 32 {
			return nil, errors.New("a key has no key_hash")
		}
		if k.ID == "" {
			return nil, errors.New("a key has no id")
		}
		if err := k.Limits.check(); err != nil {
			return nil, err
		}
		if k.Scopes == nil { // the reference's keys may do everything
			k.Scopes = []Scope{ScopeAdmin}
		}
	}
	return r, nil
}

// encode is the file as we write it, without what has had its time.
func (r *record) encode(now time.Time) ([]byte, error) {
	r.Format = fileFormat
	if r.Keys == nil {
		r.Keys = []storedKey{}
	}
	live := r.Ended[:0]
	for _, e := range r.Ended {
		if e.Until > now.Unix() {
			live = append(live, e)
		}
	}
	r.Ended = live[max(0, len(live)-maxEnded):]
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

func legacyHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// broken is the error of an auth file that can't be relied upon. Until it is
// mended nobody gets in by it.
func broken(path string, err error) *wire.Error {
	return wire.Errorf(wire.Unavailable, "auth file %s can't be used: %w", path, err).
		WithHint("restore it from a backup; or, to start with new keys and a new password: mv %s %s.broken && bandsox auth init", path, path)
}
