package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// referenceToken is made as reference-interface.md describes it.
func referenceToken(secret string, end time.Time) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(end.Unix()))
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(b[:])
	return base64.RawURLEncoding.EncodeToString(append(b[:], m.Sum(nil)...))
}

func TestSession(t *testing.T) {
	s, made := enabled(t)
	now := time.Now()
	snap, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Login(t.Context(), made.Password)
	if err != nil {
		t.Fatal(err)
	}
	b := newSession(snap.Secret, now)
	old := referenceToken(snap.Secret, now.Add(time.Hour))
	for name, token := range map[string]string{"ours": a.Token, "another": b.Token, "the reference's": old} {
		if !snap.session(token, now) {
			t.Errorf("%s is refused", name)
		}
	}
	for name, token := range map[string]string{
		"none": "", "a key": made.Key, "text": "hello", "padded": a.Token + "==",
		"another secret": newSession(secret(32), now).Token,
		"changed":        flip(a.Token, 0), "changed within": flip(a.Token, 20), "changed behind": flip(a.Token, len(a.Token)-3),
		"cut": a.Token[:len(a.Token)-4], "longer": a.Token + "AAAA", "twice": a.Token + a.Token,
		"expired":              newSession(snap.Secret, now.Add(-SessionTime-time.Second)).Token,
		"the reference's, old": referenceToken(snap.Secret, now.Add(-time.Second)),
		"before 1970":          referenceToken(snap.Secret, time.Unix(-1, 0)),
	} {
		if snap.session(token, now) {
			t.Errorf("%s is taken: %q", name, token)
		}
	}
	if snap.session(a.Token, a.Expires) {
		t.Error("a session goes on after its end")
	}

	// Logging out ends one session, everywhere, and no other.
	for range 2 {
		if err := s.EndSession(t.Context(), a.Token); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.EndSession(t.Context(), "nonsense"); err != nil {
		t.Fatal(err)
	}
	snap, _ = Open(s.path).load()
	if snap.session(a.Token, now) || !snap.session(b.Token, now) || !snap.session(old, now) {
		t.Error("logout ended the wrong sessions")
	}
	if n := len(contents(t, s).Ended); n != 1 {
		t.Errorf("%d ended sessions are remembered, want 1", n)
	}
	// What has ended by itself need not be remembered.
	s.now = func() time.Time { return now.Add(2 * SessionTime) }
	if _, err := s.CreateKey(t.Context(), KeyOptions{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	if n := len(contents(t, s).Ended); n != 0 {
		t.Errorf("%d ended sessions are remembered after their time", n)
	}
}

func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestTickets(t *testing.T) {
	var box tickets
	now := time.Now()
	_, err := box.make(Identity{Kind: Anonymous}, now)
	wantCode(t, err, wire.Invalid)
	a, err := box.make(Identity{Kind: ByKey, credential: "a"}, now)
	if err != nil || !strings.HasPrefix(a.Ticket, "bsx_t_") {
		t.Fatalf("%+v, %v", a, err)
	}
	b, err := box.make(Identity{Kind: ByKey, credential: "b"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := box.use(a.Ticket, now); !ok || c != "a" {
		t.Errorf("ticket a is %q, %v", c, ok)
	}
	if _, ok := box.use(a.Ticket, now); ok {
		t.Error("a ticket works twice")
	}
	if _, ok := box.use(b.Ticket, b.ExpiresAt); ok {
		t.Error("a ticket works after its time")
	}
	if _, ok := box.use("", now); ok {
		t.Error("no ticket is one")
	}
	for range maxTickets {
		if _, err := box.make(Identity{credential: "x"}, now); err != nil {
			t.Fatal(err)
		}
	}
	_, err = box.make(Identity{credential: "x"}, now)
	wantCode(t, err, wire.Exhausted)
	if _, err = box.make(Identity{credential: "x"}, now.Add(ticketTime)); err != nil {
		t.Errorf("old tickets leave no room: %v", err)
	}
	if len(box.open) != 1 {
		t.Errorf("%d tickets are kept, want 1", len(box.open))
	}
}
