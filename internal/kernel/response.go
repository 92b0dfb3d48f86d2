package kernel

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// validator is what tells one version of a file from another. A weak ETag
// doesn't promise equal bytes, so it is as good as none.
func validator(resp *http.Response) string {
	if e := resp.Header.Get("ETag"); e != "" && !strings.HasPrefix(e, "W/") {
		return e
	}
	return resp.Header.Get("Last-Modified")
}

// parseContentRange reads "bytes 7-9/10".
func parseContentRange(s string) (start, total int64, ok bool) {
	s, isBytes := strings.CutPrefix(s, "bytes ")
	span, all, hasAll := strings.Cut(s, "/")
	first, last, hasLast := strings.Cut(span, "-")
	if !isBytes || !hasAll || !hasLast {
		return 0, 0, false
	}
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total, err3 := strconv.ParseInt(all, 10, 64)
	// A range that stops early would end the file early.
	return start, total, err1 == nil && err2 == nil && err3 == nil && start >= 0 && end == total-1 && start < total
}

// client is c, but never led from https to http.
func client(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("redirected ten times")
		}
		if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("redirected from https to " + req.URL.Scheme)
		}
		return nil
	}
	return &own
}

// ticking calls tick for every read that brings bytes.
type ticking struct {
	r    io.Reader
	tick func()
}

func (t *ticking) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.tick()
	}
	return n, err
}

type statusError struct {
	code   int
	status string
}

func (e *statusError) Error() string { return "the server answered " + e.status }

func (e *statusError) temporary() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}

func (e *statusError) wire() error {
	code := wire.Unavailable
	switch e.code {
	case http.StatusNotFound, http.StatusGone:
		code = wire.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		code = wire.Denied
	}
	return wire.Errorf(code, "%s", e.Error())
}

func isWire(err error) bool {
	var we *wire.Error
	return errors.As(err, &we)
}

// unreachable drops the URL that net/http puts into its errors: it may hold a
// secret, and the caller names it anyway.
func unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return wire.Errorf(wire.Unavailable, "%w", err)
}
