package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	keyPrefix = "bsx_"
	keyLen    = len(keyPrefix) + 64
	maxKeys   = 10_000
	maxName   = 128
)

// Key is what may be shown of an API key: everything but the key. Times that
// the reference has are seconds since 1970, as there; new ones are RFC 3339.
type Key struct {
	ID         string     `json:"id"`
	KeyID      string     `json:"key_id,omitempty"` // ID again, in lists: half of the reference's clients want it so
	Name       string     `json:"name"`
	CreatedAt  float64    `json:"created_at"`
	LastUsedAt *float64   `json:"last_used_at"` // to the minute; null until it was used
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	Scopes     []Scope    `json:"scopes"`
	Limits
}

func (k *Key) expired(now time.Time) bool { return k.ExpiresAt != nil && !now.Before(*k.ExpiresAt) }

// KeyOptions are what a new key may do, and until when.
type KeyOptions struct {
	Name      string
	Scopes    []Scope   // none: admin, as the reference's keys
	ExpiresAt time.Time // zero: never
	Limits    Limits
}

// NewKey is a key that was just made. Key is in no file and can't be shown again.
type NewKey struct {
	KeyID     string     `json:"key_id"`
	Key       string     `json:"key"`
	Name      string     `json:"name"`
	Scopes    []Scope    `json:"scopes"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// CreateKey makes a key. Only its hash is kept.
func (s *Store) CreateKey(ctx context.Context, o KeyOptions) (NewKey, error) {
	key, stored, err := makeKey(o, s.now())
	if err != nil {
		return NewKey{}, err
	}
	err = s.edit(ctx, func(r *record) error {
		if len(r.Keys) >= maxKeys {
			return wire.Errorf(wire.Exhausted, "there are %d keys already", len(r.Keys)).WithHint("bandsox auth revoke-key KEY_ID")
		}
		// An id is 32 bits of the hash: another key may have it.
		for slices.ContainsFunc(r.Keys, func(k storedKey) bool { return k.ID == stored.ID }) {
			if key, stored, err = makeKey(o, s.now()); err != nil {
				return err
			}
		}
		r.Keys = append(r.Keys, stored)
		return nil
	})
	return key, err
}

func makeKey(o KeyOptions, now time.Time) (NewKey, storedKey, error) {
	if err := o.check(now); err != nil {
		return NewKey{}, storedKey{}, err
	}
	key := keyPrefix + secret(32)
	sum := sha256.Sum256([]byte(key))
	hash := hex.EncodeToString(sum[:])
	k := Key{
		ID: "bsx_k_" + hash[:8], Name: o.Name, CreatedAt: seconds(now),
		Scopes: slices.Clone(o.Scopes), Limits: o.Limits,
	}
	if len(k.Scopes) == 0 {
		k.Scopes = []Scope{ScopeAdmin}
	}
	if !o.ExpiresAt.IsZero() {
		t := o.ExpiresAt.UTC().Truncate(time.Second)
		k.ExpiresAt = &t
	}
	return NewKey{KeyID: k.ID, Key: key, Name: k.Name, Scopes: k.Scopes, ExpiresAt: k.ExpiresAt}, storedKey{k, hash}, nil
}

func (o KeyOptions) check(now time.Time) error {
	switch {
	case strings.TrimSpace(o.Name) == "":
		return wire.Errorf(wire.Invalid, "a key needs a name")
	case len(o.Name) > maxName || !utf8.ValidString(o.Name) || strings.ContainsFunc(o.Name, unicode.IsControl):
		return wire.Errorf(wire.Invalid, "key name %q: must be at most %d bytes of plain text", o.Name, maxName)
	case !o.ExpiresAt.IsZero() && !o.ExpiresAt.After(now):
		return wire.Errorf(wire.Invalid, "key %q would have expired already, on %s", o.Name, o.ExpiresAt.UTC().Format(time.RFC3339))
	case o.ExpiresAt.Year() > 9999:
		return wire.Errorf(wire.Invalid, "key %q would expire after the year 9999", o.Name)
	}
	for _, sc := range o.Scopes {
		if err := sc.check(); err != nil {
			return err
		}
	}
	return o.Limits.check()
}

// Keys lists the keys, oldest first.
func (s *Store) Keys() ([]Key, error) {
	snap, err := s.load()
	if err != nil {
		return nil, err
	}
	if snap == nil {
		return nil, errOff()
	}
	list := make([]Key, 0, len(snap.Keys))
	for _, k := range snap.Keys {
		k.KeyID = k.ID
		k.Scopes = slices.Clone(k.Scopes)
		list = append(list, k.Key)
	}
	return list, nil
}

// RevokeKey removes a key. A running server refuses it from the next request on.
func (s *Store) RevokeKey(ctx context.Context, id string) error {
	return s.edit(ctx, func(r *record) error {
		n := len(r.Keys)
		r.Keys = slices.DeleteFunc(r.Keys, func(k storedKey) bool { return k.ID == id })
		if len(r.Keys) == n {
			return wire.Errorf(wire.NotFound, "Key not found").WithHint("bandsox auth list-keys")
		}
		return nil
	})
}

// touch writes down when keys were last used.
func (s *Store) touch(ctx context.Context, used map[string]time.Time) error {
	return s.edit(ctx, func(r *record) error {
		same := true
		for i := range r.Keys {
			k := &r.Keys[i]
			if t, ok := used[k.ID]; ok && (k.LastUsedAt == nil || *k.LastUsedAt < seconds(t)) {
				at := seconds(t)
				k.LastUsedAt, same = &at, false
			}
		}
		if same {
			return errSame
		}
		return nil
	})
}

// key finds the key that was presented, nil if it is none of ours. Which one it
// is, among those whose hash begins alike, is compared in constant time.
func (s *snapshot) key(presented string) (found *storedKey) {
	if len(presented) != keyLen || !strings.HasPrefix(presented, keyPrefix) {
		return nil
	}
	sum := sha256.Sum256([]byte(presented))
	for _, k := range s.keys[[4]byte(sum[:])] {
		if h, _ := hex.DecodeString(k.Hash); subtle.ConstantTimeCompare(h, sum[:]) == 1 {
			found = k
		}
	}
	return found
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
