package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// paced sends a body through pace with this much patience and returns how much
// of it was read, and the error.
func paced(t *testing.T, most time.Duration, body io.Reader, before func()) (n int64, err error) {
	t.Helper()
	done := make(chan struct{})
	srv := httptest.NewServer(pace(most, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		if before != nil {
			before()
		}
		n, err = io.Copy(io.Discard, r.Body)
	})))
	defer srv.Close()
	resp, e := srv.Client().Post(srv.URL, "text/plain", body)
	if e == nil {
		resp.Body.Close()
	}
	<-done
	return n, err
}

// trickle is a body of so many pieces, with a pause before each.
type trickle struct {
	pieces, size int
	pause        time.Duration
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.pieces == 0 {
		return 0, io.EOF
	}
	b.pieces--
	time.Sleep(b.pause)
	return min(len(p), b.size), nil
}

// TestPaceEndsSlowBodies: a byte now and then is too little, however long it
// goes on.
func TestPaceEndsSlowBodies(t *testing.T) {
	t.Parallel()
	n, err := paced(t, 500*time.Millisecond, &trickle{pieces: 100, size: 1, pause: 50 * time.Millisecond}, nil)
	if wire.CodeOf(err) != wire.Timeout || n >= 100 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestPaceBearsSteadyBodies: one that comes fast enough may take longer than
// anyone is waited for.
func TestPaceBearsSteadyBodies(t *testing.T) {
	t.Parallel()
	const most = 2 * time.Second
	body := &trickle{pieces: 30, size: 8 << 10, pause: most / 20}
	if n, err := paced(t, most, body, nil); err != nil || n != 30*8<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestPaceIsTheClients: a body that nobody reads for a while isn't late.
func TestPaceIsTheClients(t *testing.T) {
	t.Parallel()
	const most = 500 * time.Millisecond
	if n, err := paced(t, most, &trickle{pieces: 4, size: 4 << 10}, func() { time.Sleep(2 * most) }); err != nil || n != 16<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
