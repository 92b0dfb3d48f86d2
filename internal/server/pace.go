package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// A request's body may be slow, but it must come. A client has so much time to
// be waited for; each byte gives it some back. Time in which nobody reads, since
// the guest is slow, is not the client's.
const (
	patience       = 30 * time.Second // for a body that is held in memory
	streamPatience = 5 * time.Minute  // for one that goes on to a guest: it may come out of a pipe
	slowest        = 1 << 10          // bytes a second
	goodbye        = 2 * time.Second  // for the rest of a body that nobody has read
)

// pace bounds how long a route waits for its requests' bodies.
func pace(most time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			h.ServeHTTP(w, r)
			return
		}
		b := &pacedBody{ReadCloser: r.Body, flow: http.NewResponseController(w), most: most, left: most}
		defer b.done()
		r.Body = b
		h.ServeHTTP(w, r)
	})
}

type pacedBody struct {
	io.ReadCloser
	flow       *http.ResponseController
	most, left time.Duration
	ended      atomic.Bool // who reads for the guest may be at it when the route is done
}

func (b *pacedBody) Read(p []byte) (int, error) {
	began := time.Now()
	_ = b.flow.SetReadDeadline(began.Add(b.left))
	n, err := b.ReadCloser.Read(p)
	b.left = min(b.most, b.left-time.Since(began)+time.Duration(n)*time.Second/slowest)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The deadline stays: it ends the wait for the rest, too.
		b.ended.Store(true)
		err = wire.Errorf(wire.Timeout, "the request's body came too slowly: %w", err)
	case errors.Is(err, io.EOF):
		// From here on the connection is read for the sake of noticing its end.
		b.ended.Store(true)
		_ = b.flow.SetReadDeadline(time.Time{})
	}
	return n, err
}

// done bounds how long the server waits for what the route has not read.
func (b *pacedBody) done() {
	if !b.ended.Load() {
		_ = b.flow.SetReadDeadline(time.Now().Add(goodbye))
	}
}
