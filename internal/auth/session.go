package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"time"
)

// SessionTime is how long a login lasts.
const SessionTime = 24 * time.Hour

// Session is a login: the token is its proof, in the cookie or in a WebSocket's
// request.
type Session struct {
	Token   string
	Expires time.Time
}

// A token is 8 bytes of its end in seconds, and their HMAC: so the reference
// made them, and so they are still taken. Ours have 16 random bytes in between,
// so that no two sessions are the same and each can be ended alone.
const (
	endLen    = 8
	nonceLen  = 16
	macLen    = sha256.Size
	oldToken  = endLen + macLen
	longToken = endLen + nonceLen + macLen
)

func newSession(secret string, now time.Time) Session {
	end := now.Add(SessionTime).Truncate(time.Second)
	b := binary.BigEndian.AppendUint64(nil, uint64(end.Unix()))
	nonce := make([]byte, nonceLen)
	_, _ = rand.Read(nonce)
	b = append(b, nonce...)
	return Session{base64.RawURLEncoding.EncodeToString(append(b, sign(secret, b)...)), end}
}

func sign(secret string, b []byte) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(b)
	return m.Sum(nil)
}

// openToken returns the end of a token that secret has signed.
func openToken(secret, token string) (end int64, ok bool) {
	if len(token) > 100 {
		return 0, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != oldToken && len(b) != longToken {
		return 0, false
	}
	body, mac := b[:len(b)-macLen], b[len(b)-macLen:]
	if !hmac.Equal(mac, sign(secret, body)) {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(body)), true
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// session reports whether the token is that of a session that goes on.
func (s *snapshot) session(token string, now time.Time) bool {
	end, ok := openToken(s.Secret, token)
	return ok && now.Unix() < end && !s.ended[tokenHash(token)]
}

// EndSession makes a session's token worth nothing, here and in every other
// process, now and after a restart.
func (s *Store) EndSession(ctx context.Context, token string) error {
	return s.edit(ctx, func(r *record) error {
		end, ok := openToken(r.Secret, token)
		hash := tokenHash(token)
		if !ok || slices.ContainsFunc(r.Ended, func(e endedSession) bool { return e.Hash == hash }) {
			return errSame
		}
		r.Ended = append(r.Ended, endedSession{hash, end})
		return nil
	})
}
