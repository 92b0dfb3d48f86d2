package client

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bandsox/bandsox"
)

// TestUntrustedServer: what helps is to trust it, not to start another.
func TestUntrustedServer(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	c, err := Dial(t.Context(), s.URL, Options{})
	if err == nil {
		defer c.Close()
		_, err = c.List(t.Context(), bandsox.ListOptions{})
	}
	var e *bandsox.Error
	if !errors.As(err, &e) || e.Code != bandsox.CodeUnavailable || !strings.Contains(e.Hint, "--tls-fingerprint") {
		t.Errorf("got %v: %+v", err, e)
	}
}
