package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/bandsox/bandsox/internal/wire"
)

// The bounds of a password that can be set.
const (
	MinPassword = 8 // characters
	maxPassword = 1024
)

// What OWASP asks of argon2id at least: the server's memory is the sandboxes'.
const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB
	argonLanes  = 1
	saltLen     = 16
	hashLen     = 32
	queueTime   = 10 * time.Second
)

// checkPassword says what is wrong with a password that someone wants to set.
func checkPassword(p string) error {
	switch {
	case utf8.RuneCountInString(p) < MinPassword:
		return wire.Errorf(wire.Invalid, "the password must have at least %d characters", MinPassword)
	case len(p) > maxPassword:
		return wire.Errorf(wire.Invalid, "the password must have at most %d bytes", maxPassword)
	}
	return nil
}

// newPassword is one that nobody guesses and everyone can type.
func newPassword() string {
	const alphabet = "abcdefghjkmnpqrstuvwxyz23456789" // nothing that looks like another
	var b strings.Builder
	for b.Len() < 24 {
		if b.Len()%5 == 4 {
			b.WriteByte('-')
		}
		var c [1]byte
		for _, _ = rand.Read(c[:]); int(c[0]) >= 248; _, _ = rand.Read(c[:]) { // 248 is 8*31: no letter is likelier
		}
		b.WriteByte(alphabet[int(c[0])%len(alphabet)])
	}
	return b.String()
}

// hash makes what the file keeps of a password, in the usual notation.
func (s *Store) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt)
	p := phc{argonMemory, argonTime, argonLanes, salt, nil}
	sum, err := s.derive(ctx, password, p, hashLen)
	p.sum = sum
	return p.String(), err
}

// verify compares a password with what the file keeps. An unsalted SHA-256, as
// the reference made, takes as long to refuse as one of ours.
func (s *Store) verify(ctx context.Context, stored, password string) (bool, error) {
	if len(password) > maxPassword {
		password = "" // no such password can have been set
	}
	p, ok := parsePHC(stored)
	if !ok {
		p = phc{argonMemory, argonTime, argonLanes, make([]byte, saltLen), make([]byte, hashLen)}
	}
	sum, err := s.derive(ctx, password, p, len(p.sum))
	if err != nil {
		return false, err
	}
	if legacyHash(stored) {
		old := sha256.Sum256([]byte(password))
		want, _ := hex.DecodeString(stored)
		return subtle.ConstantTimeCompare(old[:], want) == 1, nil
	}
	return ok && subtle.ConstantTimeCompare(sum, p.sum) == 1, nil
}

// derive hashes one password at a time, so that many logins at once take
// neither the memory nor all the processors.
func (s *Store) derive(ctx context.Context, password string, p phc, n int) ([]byte, error) {
	wait := time.NewTimer(queueTime)
	defer wait.Stop()
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-wait.C:
		return nil, tooMany(queueTime, "too many logins at once")
	case <-ctx.Done():
		return nil, failure("checking", "the password", ctx.Err())
	}
	return argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.lanes, uint32(n)), nil
}

// phc is an argon2id hash with all that is needed to make it again.
type phc struct {
	memory, time uint32
	lanes        uint8
	salt, sum    []byte
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.lanes,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.sum))
}

// parsePHC refuses figures that would take a minute or the memory: the file may
// have come from anywhere.
func parsePHC(s string) (phc, bool) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, false
	}
	var figures [3]uint64
	list := strings.Split(f[3], ",")
	if len(list) != 3 {
		return phc{}, false
	}
	for i, limit := range []struct {
		name string
		most uint64
	}{{"m=", 256 << 10}, {"t=", 16}, {"p=", 16}} {
		v, ok := strings.CutPrefix(list[i], limit.name)
		n, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil || n < 1 || n > limit.most {
			return phc{}, false
		}
		figures[i] = n
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(f[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(f[5])
	ok := err1 == nil && err2 == nil && len(salt) >= 8 && len(salt) <= 64 && len(sum) >= 16 && len(sum) <= 64
	return phc{uint32(figures[0]), uint32(figures[1]), uint8(figures[2]), salt, sum}, ok
}

func knownHash(s string) bool {
	_, ok := parsePHC(s)
	return ok
}
