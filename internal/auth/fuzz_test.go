package auth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzFile: whatever a file holds, it is refused, or safe to use and the same
// after it was written and read.
func FuzzFile(f *testing.F) {
	f.Add([]byte(referenceFile()))
	f.Add([]byte(`{"format":2,"admin_password_hash":"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA","session_secret":"` + strings.Repeat("0", 64) + `","api_keys":null}`))
	f.Add([]byte("null"))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		if !legacyHash(r.PasswordHash) && !knownHash(r.PasswordHash) || len(r.Secret) < 32 {
			t.Fatalf("taken: %s", b)
		}
		out, err := r.encode(time.Unix(1_800_000_000, 0))
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if len(again.Keys) != len(r.Keys) || again.Secret != r.Secret || again.PasswordHash != r.PasswordHash {
			t.Fatalf("changed by writing: %s\n%s", b, out)
		}
	})
}

// FuzzToken: nothing is a session but what the secret signed.
func FuzzToken(f *testing.F) {
	secret := strings.Repeat("5", 64)
	now := time.Unix(1_800_000_000, 0)
	valid := map[string]bool{newSession(secret, now).Token: true, referenceToken(secret, now.Add(time.Hour)): true}
	for v := range valid {
		f.Add(v)
		f.Add(v[1:])
	}
	snap := &snapshot{record: &record{Secret: secret}}
	f.Fuzz(func(t *testing.T, token string) {
		if snap.session(token, now) && !valid[token] {
			// Only fuzzing by someone who knows the secret gets here.
			b, _ := base64.RawURLEncoding.DecodeString(token)
			if string(b[len(b)-macLen:]) != string(sign(secret, b[:len(b)-macLen])) {
				t.Fatalf("a forged session: %q", token)
			}
		}
	})
}

// FuzzRequest: no header makes a caller known, or the guard fail.
func FuzzRequest(f *testing.F) {
	f.Add("Bearer bsx_0", "bandsox_session=x; bandsox_session=\"y\"", "bandsox.auth.eA==, bandsox.terminal", "token=x&ticket=%zz", "localhost:80")
	f.Add("bearer  ", "=;;", ",,bandsox.auth.,", "token", "[::1")
	s := Open(f.TempDir() + "/auth.json")
	if err := replace(s.path, []byte(referenceFile())); err != nil {
		f.Fatal(err)
	}
	g, err := NewGuard(s, Options{Hosts: []string{"box.lan"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization, cookie, protocol, query, host string) {
		r := &http.Request{Method: "GET", Host: host, RemoteAddr: "192.0.2.1:1", URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{
			"Authorization": {authorization}, "Cookie": {cookie}, "Sec-Websocket-Protocol": {protocol},
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		}}
		key := strings.Repeat("a", 64)
		if strings.Contains(authorization+protocol+query, key) {
			return
		}
		if who, _, _ := g.identify(r); who.Known() {
			t.Fatalf("known as %v by %v", who, r)
		}
		Strip(r)
		if strings.Contains(r.Header.Get("Sec-Websocket-Protocol"), ","+protocolPrefix) {
			t.Fatalf("a token goes on: %v", r.Header)
		}
	})
}

// FuzzPasswordHash: what is taken is bounded, and written as it was read.
func FuzzPasswordHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA")
	f.Add("$argon2id$v=19$m=0,t=0,p=0$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := parsePHC(s)
		if !ok {
			return
		}
		if p.memory > 256<<10 || p.time < 1 || p.time > 16 || p.lanes < 1 || len(p.sum) < 16 {
			t.Fatalf("%q is %+v", s, p)
		}
		if again, ok := parsePHC(p.String()); !ok || again.String() != p.String() {
			t.Fatalf("%q became %q", s, p)
		}
	})
}
