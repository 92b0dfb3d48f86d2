package auth

import (
	"context"

	"github.com/bandsox/bandsox/internal/wire"
)

// Enabled is what Init made. Nothing in it can be shown a second time.
type Enabled struct {
	Password string `json:"password"`
	NewKey
}

// ErrEnabled is the message of Init where there is an auth file already.
const ErrEnabled = "Authentication is already enabled."

// Init turns authentication on: it makes the file, with a first key that may do
// everything and the given password, or one of its own if that is empty.
func (s *Store) Init(ctx context.Context, password string) (Enabled, error) {
	if password == "" {
		password = newPassword()
	}
	if err := checkPassword(password); err != nil {
		return Enabled{}, err
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return Enabled{}, err
	}
	key, stored, err := makeKey(KeyOptions{Name: "default"}, s.now())
	if err != nil {
		return Enabled{}, err
	}
	err = s.update(ctx, func(r *record) (*record, error) {
		if r != nil {
			return nil, wire.Errorf(wire.Conflict, ErrEnabled).WithHint("bandsox auth create-key NAME, or bandsox auth set-password")
		}
		return &record{PasswordHash: hash, Secret: secret(32), Keys: []storedKey{stored}}, nil
	})
	return Enabled{Password: password, NewKey: key}, err
}

// SetPassword changes the password and ends all sessions.
func (s *Store) SetPassword(ctx context.Context, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.edit(ctx, func(r *record) error {
		r.PasswordHash, r.Secret, r.Ended = hash, secret(32), nil
		return nil
	})
}

// Login exchanges the password for a session. A hash of the reference's is
// replaced by one of ours on the way.
func (s *Store) Login(ctx context.Context, password string) (Session, error) {
	snap, err := s.load()
	if err != nil {
		return Session{}, err
	}
	if snap == nil {
		return Session{}, errOff()
	}
	ok, err := s.verify(ctx, snap.PasswordHash, password)
	if err != nil {
		return Session{}, err
	}
	if !ok {
		return Session{}, wire.Errorf(wire.Unauthorized, "Invalid password").
			WithHint("bandsox auth set-password, on the server, sets a new one")
	}
	if legacyHash(snap.PasswordHash) {
		_ = s.rehash(ctx, snap.PasswordHash, password) // a file that can't be written still lets its owner in
	}
	return newSession(snap.Secret, s.now()), nil
}

func (s *Store) rehash(ctx context.Context, old, password string) error {
	hash, err := s.hash(ctx, password)
	if err != nil {
		return err
	}
	return s.edit(ctx, func(r *record) error {
		if r.PasswordHash != old { // another login or set-password came first
			return errSame
		}
		r.PasswordHash = hash
		return nil
	})
}
