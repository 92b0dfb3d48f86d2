package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// progressEvery is how often one piece of work tells how far it is.
const progressEvery = 100 * time.Millisecond

// createEvents makes a sandbox and tells how far that is. One that is to be
// removed with its creator lives as long as this request: it is the creator.
func (s *Server) createEvents(w http.ResponseWriter, r *http.Request) error {
	var body api.CreateVM
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	stream := newEvents(w)
	defer stream.close()
	ctx := stream.progress(r.Context())
	sb, err := s.create(ctx, body)
	if err != nil {
		return stream.send("", "error", s.asStatus(err, nil))
	}
	err = stream.send("", "created", api.Created{ID: sb.ID(), Status: "created"})
	if !body.AutoRemove {
		return err
	}
	if err == nil {
		s.whileHere(r.Context(), sb)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return sb.Delete(ctx)
}

// whileHere returns when the caller has left, the sandbox is deleted or the
// server ends.
func (s *Server) whileHere(ctx context.Context, sb *bandsox.Sandbox) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	_ = sb.Wait(ctx, bandsox.StateDeleted)
}

// progress is ctx for work whose length is told by events.
func (e *events) progress(ctx context.Context) context.Context {
	return bandsox.WithProgress(ctx, throttled(func(p api.Progress) { _ = e.send("", "progress", p) }))
}

// throttled leaves out most of what is told too often, but not the end of it.
func throttled(tell func(api.Progress)) bandsox.Progress {
	var mu sync.Mutex
	last := map[string]time.Time{}
	return func(what string, done, total int64) {
		mu.Lock()
		now := time.Now()
		skip := now.Sub(last[what]) < progressEvery && (total == 0 || done < total)
		if !skip {
			last[what] = now
		}
		mu.Unlock()
		if !skip {
			tell(api.Progress{What: what, Done: done, Total: total})
		}
	}
}

// readJSON reads the body of a raw route. It refuses what isn't the whole of
// it, and leaves what it doesn't know to its callers' own check.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSONBody))
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = invalid("more than one value")
		}
	}
	if err == nil || isTooLarge(err) {
		return err
	}
	return invalid("the body must be JSON: %w", err)
}
