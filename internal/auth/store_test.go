package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// open is a store in a directory of its own.
func open(t *testing.T) *Store {
	t.Helper()
	return Open(filepath.Join(t.TempDir(), "auth.json"))
}

// enabled is one with a password and a first key.
func enabled(t *testing.T) (*Store, Enabled) {
	t.Helper()
	s := open(t)
	made, err := s.Init(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s, made
}

func wantCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if err == nil || wire.CodeOf(err) != code {
		t.Errorf("error %v, want one of class %s", err, code)
	}
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// referenceFile is an auth file as the reference writes it, for the password
// "correct horse" and a key of 64 times "a".
func referenceFile() string {
	key := sha("bsx_" + strings.Repeat("a", 64))
	return fmt.Sprintf(`{"admin_password_hash": %q, "session_secret": %q, "api_keys": [
  {"id": "bsx_k_%s", "name": "old", "key_hash": %q, "created_at": 1723456789.123, "last_used_at": null}]}`,
		sha("correct horse"), strings.Repeat("5", 64), key[:8], key)
}

func write(t *testing.T, s *Store, text string) {
	t.Helper()
	if err := os.WriteFile(s.path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, s *Store) *record {
	t.Helper()
	b, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestInit(t *testing.T) {
	s := open(t)
	if on, err := s.Enabled(); on || err != nil {
		t.Fatalf("enabled without a file: %v, %v", on, err)
	}
	for _, err := range []error{
		s.SetPassword(t.Context(), "long enough"), s.RevokeKey(t.Context(), "x"), s.touch(t.Context(), nil),
	} {
		wantCode(t, err, wire.NotFound)
	}
	if _, err := os.Stat(s.path); !os.IsNotExist(err) {
		t.Errorf("a refused change made a file: %v", err)
	}
	made, err := s.Init(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if on, err := s.Enabled(); !on || err != nil {
		t.Fatalf("not enabled after Init: %v, %v", on, err)
	}
	info, err := os.Stat(s.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the auth file: %v, %v", info.Mode(), err)
	}
	if !strings.HasPrefix(made.Key, "bsx_") || len(made.Key) != 68 || made.KeyID != "bsx_k_"+sha(made.Key)[:8] {
		t.Errorf("key %q with id %q is not of the reference's form", made.Key, made.KeyID)
	}
	b, _ := os.ReadFile(s.path)
	for _, secret := range []string{made.Key, made.Password} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the file holds what it must not: %s", b)
		}
	}
	if _, err := s.Login(t.Context(), made.Password); err != nil {
		t.Errorf("login with the password that was made: %v", err)
	}
	_, err = s.Init(t.Context(), "another one")
	wantCode(t, err, wire.Conflict)
	if _, err := s.Login(t.Context(), made.Password); err != nil {
		t.Errorf("a second Init changed the password: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), "*.new"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReferenceFile: what the reference wrote works as it is, and the next
// write keeps all of it in the new form.
func TestReferenceFile(t *testing.T) {
	s := open(t)
	write(t, s, referenceFile())
	snap, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if k := snap.key("bsx_" + strings.Repeat("a", 64)); k == nil || k.Name != "old" || k.Scopes[0] != ScopeAdmin {
		t.Errorf("the key: %+v", k)
	}
	_, err = s.Login(t.Context(), "correct hors")
	wantCode(t, err, wire.Unauthorized)
	if got := contents(t, s).PasswordHash; got != sha("correct horse") {
		t.Errorf("a wrong password changed the hash to %q", got)
	}
	if _, err := s.Login(t.Context(), "correct horse"); err != nil {
		t.Fatal(err)
	}
	r := contents(t, s)
	if !knownHash(r.PasswordHash) {
		t.Errorf("the password is still kept as %q", r.PasswordHash)
	}
	old, _ := decode([]byte(referenceFile()))
	if diff := cmp.Diff(old.Keys, r.Keys); diff != "" || old.Secret != r.Secret {
		t.Errorf("the upgrade changed more than the password: %s", diff)
	}
	if info, _ := os.Stat(s.path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v after the upgrade", info.Mode())
	}
	if _, err := s.Login(t.Context(), "correct horse"); err != nil {
		t.Errorf("login after the upgrade: %v", err)
	}
	_, err = s.Login(t.Context(), sha("correct horse"))
	wantCode(t, err, wire.Unauthorized)
}

// TestBrokenFile: a file that can't be relied upon is an error everywhere, with
// what to do, and nothing overwrites it.
func TestBrokenFile(t *testing.T) {
	good := referenceFile()
	deep := func(field, value string) string {
		var m map[string]any
		if err := json.Unmarshal([]byte(good), &m); err != nil {
			t.Fatal(err)
		}
		delete(m, field)
		if value != "" {
			m[field] = json.RawMessage(value)
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"blank":           " \n",
		"null":            "null",
		"object":          "{}",
		"array":           "[]",
		"cut in half":     good[:len(good)/2],
		"cut at the end":  good[:len(good)-1],
		"more behind":     good + "{}",
		"zeros":           strings.Repeat("\x00", 300),
		"no password":     deep("admin_password_hash", ""),
		"odd password":    deep("admin_password_hash", `"hunter2"`),
		"greedy password": deep("admin_password_hash", `"$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA"`),
		"no secret":       deep("session_secret", ""),
		"short secret":    deep("session_secret", `"00"`),
		"newer":           deep("format", "99"),
		"key without id":  deep("api_keys", `[{"key_hash":"`+sha("x")+`"}]`),
		"key of nothing":  deep("api_keys", `[{"id":"x","key_hash":""}]`),
		"negative limit":  deep("api_keys", `[{"id":"x","key_hash":"`+sha("x")+`","max_vcpu":-1}]`),
		"keys of text":    deep("api_keys", `"none"`),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			write(t, s, text)
			_, errEnabled := s.Enabled()
			_, errInit := s.Init(t.Context(), "long enough")
			_, errLogin := s.Login(t.Context(), "long enough")
			_, errKeys := s.Keys()
			_, errCreate := s.CreateKey(t.Context(), KeyOptions{Name: "x"})
			_, errGuard := NewGuard(s, Options{})
			for _, err := range []error{errEnabled, errInit, errLogin, errKeys, errCreate, errGuard, s.SetPassword(t.Context(), "long enough")} {
				wantCode(t, err, wire.Unavailable)
			}
			if b, _ := os.ReadFile(s.path); string(b) != text {
				t.Errorf("the file was changed to %q", b)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"directory":    func(p string) error { return os.Mkdir(p, 0o700) },
		"pipe":         func(p string) error { return unix.Mkfifo(p, 0o600) },
		"link to none": func(p string) error { return os.Symlink("nowhere", p) },
		"link to self": func(p string) error { return os.Symlink(filepath.Base(p), p) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if err := make(s.path); err != nil {
				t.Fatal(err)
			}
			on, err := s.Enabled()
			wantCode(t, err, wire.Unavailable)
			if on {
				t.Error("enabled")
			}
		})
	}
}

// TestFileGone: a server that has had keys doesn't go on without.
func TestFileGone(t *testing.T) {
	s, _ := enabled(t)
	if _, err := s.Enabled(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	_, err := s.Enabled()
	wantCode(t, err, wire.Unavailable)
	if _, err := s.Init(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if on, err := s.Enabled(); !on || err != nil {
		t.Errorf("after a new Init: %v, %v", on, err)
	}
}

// TestSeesOthersChanges: what one process writes, another sees at its next look.
func TestSeesOthersChanges(t *testing.T) {
	s, first := enabled(t)
	server := Open(s.path)
	for range 5 {
		made, err := s.CreateKey(t.Context(), KeyOptions{Name: "short-lived"})
		if err != nil {
			t.Fatal(err)
		}
		if snap, err := server.load(); err != nil || snap.key(made.Key) == nil || snap.key(first.Key) == nil {
			t.Fatalf("a new key is not seen: %v", err)
		}
		if err := s.RevokeKey(t.Context(), made.KeyID); err != nil {
			t.Fatal(err)
		}
		if snap, err := server.load(); err != nil || snap.key(made.Key) != nil {
			t.Fatalf("a revoked key goes on: %v", err)
		}
	}
	wantCode(t, s.RevokeKey(t.Context(), "bsx_k_00000000"), wire.NotFound)
	// Once the file has aged, a look is a stat, and a change still shows.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.path, old, old); err != nil {
		t.Fatal(err)
	}
	a, _ := server.load()
	if b, _ := server.load(); a != b {
		t.Error("an unchanged file was read again")
	}
	if err := s.RevokeKey(t.Context(), first.KeyID); err != nil {
		t.Fatal(err)
	}
	if snap, err := server.load(); err != nil || snap.key(first.Key) != nil {
		t.Errorf("a revoked key goes on: %v", err)
	}
}

// TestTwoProcesses makes keys from several processes at once: none is lost.
func TestTwoProcesses(t *testing.T) {
	const each = 5
	if path := os.Getenv("BANDSOX_TEST_AUTH"); path != "" {
		for i := range each {
			if _, err := Open(path).CreateKey(t.Context(), KeyOptions{Name: fmt.Sprintf("%d-%d", os.Getpid(), i)}); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	s, _ := enabled(t)
	var cmds []*exec.Cmd
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTwoProcesses$")
		cmd.Env = append(os.Environ(), "BANDSOX_TEST_AUTH="+s.path)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	keys, err := s.Keys()
	if err != nil || len(keys) != 1+3*each {
		t.Fatalf("%d keys, want %d: %v", len(keys), 1+3*each, err)
	}
	ids := map[string]bool{}
	for _, k := range keys {
		ids[k.ID] = true
	}
	if len(ids) != len(keys) {
		t.Errorf("%d ids for %d keys", len(ids), len(keys))
	}
}

func TestPassword(t *testing.T) {
	s, made := enabled(t)
	for _, bad := range []string{"", "short", "sevench", strings.Repeat("x", 1025)} {
		wantCode(t, s.SetPassword(t.Context(), bad), wire.Invalid)
	}
	session, err := s.Login(t.Context(), made.Password)
	if err != nil {
		t.Fatal(err)
	}
	const next = "pässwörd"
	if err := s.SetPassword(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{made.Password, "", next + " ", strings.Repeat("x", 5000)} {
		_, err := s.Login(t.Context(), bad)
		wantCode(t, err, wire.Unauthorized)
	}
	if _, err := s.Login(t.Context(), next); err != nil {
		t.Error(err)
	}
	snap, _ := s.load()
	if snap.session(session.Token, time.Now()) {
		t.Error("a session outlived its password")
	}
	if snap.key(made.Key) == nil {
		t.Error("a new password took a key away")
	}
}

func TestKeys(t *testing.T) {
	s, _ := enabled(t)
	now := time.Now()
	for name, o := range map[string]KeyOptions{
		"no name":        {},
		"blank name":     {Name: " "},
		"steering name":  {Name: "a\x1b[31m"},
		"long name":      {Name: strings.Repeat("x", 129)},
		"expired":        {Name: "x", ExpiresAt: now.Add(-time.Second)},
		"far":            {Name: "x", ExpiresAt: now.AddDate(9000, 0, 0)},
		"unknown scope":  {Name: "x", Scopes: []Scope{"root"}},
		"no sandbox":     {Name: "x", Scopes: []Scope{"sandbox:"}},
		"odd sandbox":    {Name: "x", Scopes: []Scope{OnSandbox("../x")}},
		"negative limit": {Name: "x", Limits: Limits{MaxVCPU: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.CreateKey(t.Context(), o)
			wantCode(t, err, wire.Invalid)
		})
	}
	o := KeyOptions{Name: "ci", Scopes: []Scope{ScopeRead, OnSandbox("abcdefghij0123456789")}, ExpiresAt: now.Add(time.Hour),
		Limits: Limits{RatePerMinute: 5, MaxSandboxes: 1, MaxVCPU: 2, MaxMemMiB: 3}}
	if _, err := s.CreateKey(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys()
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	k := keys[1]
	if diff := cmp.Diff(o, KeyOptions{k.Name, k.Scopes, *k.ExpiresAt, k.Limits}, cmp.Comparer(func(a, b time.Time) bool {
		return a.Truncate(time.Second).Equal(b.Truncate(time.Second))
	})); diff != "" {
		t.Error(diff)
	}
	b, err := json.Marshal(keys)
	if err != nil || strings.Contains(string(b), "hash") {
		t.Errorf("a list shows hashes: %s %v", b, err)
	}
	at := time.Unix(1_800_000_000, 0)
	if err := s.touch(t.Context(), map[string]time.Time{k.ID: at}); err != nil {
		t.Fatal(err)
	}
	if err := s.touch(t.Context(), map[string]time.Time{k.ID: at.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if keys, _ = s.Keys(); keys[1].LastUsedAt == nil || *keys[1].LastUsedAt != 1_800_000_000 || keys[0].LastUsedAt != nil {
		t.Errorf("last use: %+v", keys)
	}
}
