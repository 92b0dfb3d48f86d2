package server

import (
	"context"
	"errors"
	"iter"
	"net/http"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

const linesAbout = "Each line is a JSON object. One with an error and a path is about that path alone; one with an error and no path is the last."

// sendLines answers with what seq yields, a line each. An error before the
// first is the answer's.
func sendLines[T any](s *Server, w http.ResponseWriter, seq iter.Seq2[T, error], pathOf func(T) string) error {
	begun := false
	flow := http.NewResponseController(w)
	for v, err := range seq {
		about := pathOf(v)
		if err != nil && about == "" && !begun {
			return err
		}
		if !begun {
			begun = true
			linesBegin(w)
		}
		line := any(v)
		if err != nil {
			line = api.Failed{Path: wire.Text(about), Error: s.asStatus(err, nil)}
		}
		if _, err := w.Write(append(api.JSON(line), '\n')); err != nil {
			return err
		}
	}
	if !begun {
		linesBegin(w)
	}
	if err := flow.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func linesBegin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) findFiles(w http.ResponseWriter, r *http.Request) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	depth, err := count(r, "depth")
	if err != nil {
		return err
	}
	q := r.URL.Query()
	o := bandsox.WalkOptions{Depth: int(depth), Include: q["include"], Exclude: q["exclude"], Type: q.Get("type")}
	if o.SkipHidden, err = flag(r, "skip_hidden"); err != nil {
		return err
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return sendLines(s, w, sb.Walk(r.Context(), name, o), func(st bandsox.Stat) string { return st.Path })
}

func (s *Server) searchFiles(w http.ResponseWriter, r *http.Request) error {
	var body api.Search
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return sendLines(s, w, sb.Search(r.Context(), body.Options()), func(m bandsox.Match) string { return m.Path })
}

// watchFiles tells of changes until the reader leaves or there is nothing to
// watch any more.
func (s *Server) watchFiles(w http.ResponseWriter, r *http.Request) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	var o bandsox.WatchOptions
	if o.Recursive, err = flag(r, "recursive"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	sb, err := s.m.Get(ctx, r.PathValue("id"))
	if err != nil {
		return err
	}
	if _, err := sb.Stat(ctx, name); err != nil { // what isn't there is the answer's own error
		var e *bandsox.Error
		if errors.As(err, &e) {
			err = &bandsox.Error{Code: e.Code, Op: "watch", ID: e.ID, Err: e.Err, Hint: e.Hint}
		}
		return err
	}
	seq := sb.Watch(ctx, name, o)
	stream := newEvents(w)
	defer stream.close()
	if err := stream.send("", "watching", struct{}{}); err != nil {
		return err
	}
	for e, err := range seq {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return stream.send("", "error", s.asStatus(err, nil))
		}
		if err := stream.send("", "change", e); err != nil {
			return err
		}
	}
	return stream.send("", "end", struct{}{})
}
