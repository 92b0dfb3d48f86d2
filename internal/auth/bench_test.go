package auth

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// BenchmarkAuthenticate is what the guard adds to a request with a key.
func BenchmarkAuthenticate(b *testing.B) {
	s := Open(b.TempDir() + "/auth.json")
	made, err := s.Init(b.Context(), "long enough")
	if err != nil {
		b.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.path, old, old); err != nil {
		b.Fatal(err)
	}
	g, err := NewGuard(s, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	h := g.Authenticate(g.Require(NeedUse, nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
	r := httptest.NewRequest("GET", "/api/vms", nil)
	r.Header.Set("Authorization", "Bearer "+made.Key)
	for b.Loop() {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkLogin is what a guess costs whoever makes it, and us.
func BenchmarkLogin(b *testing.B) {
	s := Open(b.TempDir() + "/auth.json")
	if _, err := s.Init(b.Context(), "long enough"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Login(b.Context(), "long enough"); err != nil {
			b.Fatal(err)
		}
	}
}
