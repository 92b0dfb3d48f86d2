package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

// route is one line of the table.
type route struct {
	method, path string
	need         auth.Need
	tag          string // the part of the documentation that it is in
	summary      string // what it does, in a line
	about        string // the rest, in Markdown; may be empty
	do           handler

	// notRunning is the status of a conflict here, where the reference answers
	// that there is no such sandbox because it doesn't run. The code in the body
	// is conflict all the same. 0: 409.
	notRunning int
	hidden     bool // not in the documentation: pages, aliases

	// events is what a typed route does instead when it is asked for an answer
	// of events.
	events func(s *Server, w http.ResponseWriter, r *http.Request) error
	frames func(s *Server, w http.ResponseWriter, r *http.Request) error // and of api.FramesType
}

// handler is what a route does: typed or raw.
type handler interface {
	mount(s *Server, rt route)
}

// typed is a route whose request and answer are values: checked against the
// types' schema before f is called, written as JSON after it.
type typed[I, O any] struct {
	f func(s *Server, ctx context.Context, in *I) (*O, error)
}

// call makes a typed handler of a method of Server.
func call[I, O any](f func(*Server, context.Context, *I) (*O, error)) handler { return typed[I, O]{f} }

func (t typed[I, O]) mount(s *Server, rt route) {
	op := rt.operation()
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := t.f(s, ctx, in)
		if err != nil {
			return nil, s.asStatus(err, &rt)
		}
		return out, nil
	})
}

// raw is a route that reads its request and writes its answer itself: streams,
// files, WebSockets. An error is answered unless the answer has begun.
type raw struct {
	f   func(s *Server, w http.ResponseWriter, r *http.Request) error
	doc func(op *huma.Operation, schemas huma.Registry) // parameters, bodies
}

// stream makes a raw handler. doc may be nil.
func stream(f func(*Server, http.ResponseWriter, *http.Request) error, doc func(*huma.Operation, huma.Registry)) handler {
	return raw{f, doc}
}

func (h raw) mount(s *Server, rt route) {
	op := rt.operation()
	if h.doc != nil {
		h.doc(&op, s.api.OpenAPI().Components.Schemas)
	}
	s.documentErrors(&op)
	if !rt.hidden {
		s.api.OpenAPI().AddOperation(&op)
	}
	s.handle(rt, s.serveRaw(rt, h.f))
}

func (s *Server) serveRaw(rt route, f func(*Server, http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		track := &tracker{ResponseWriter: w}
		if err := f(s, track, r); err != nil {
			if track.begun {
				s.log.Debug("answer broken off", "path", r.URL.Path, "err", err)
				panic(http.ErrAbortHandler) // so that the client sees a broken answer, not a short one
			}
			s.writeError(w, err, &rt)
		}
	})
}

// tracker knows whether the answer has begun.
type tracker struct {
	http.ResponseWriter
	begun bool
}

func (t *tracker) WriteHeader(status int) {
	t.begun = t.begun || status >= 200
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(b []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (rt route) operation() huma.Operation {
	return huma.Operation{
		OperationID: operationID(rt.method, rt.path), Method: rt.method, Path: humaPath(rt.path), Summary: rt.summary, Description: rt.about,
		Tags: []string{rt.tag}, Metadata: map[string]any{routeKey: rt}, Hidden: rt.hidden, MaxBodyBytes: maxJSONBody,
		BodyReadTimeout: -1, // pace bounds it
	}
}

// maxJSONBody is the limit of a request that is held in memory.
const maxJSONBody = 8 << 20

// operationID is the name of a route in clients that are made from the document.
func operationID(method, path string) string {
	words := []string{strings.ToLower(method)}
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/{}.-", r) }) {
		if part != "api" {
			words = append(words, part)
		}
	}
	return strings.Join(words, "-")
}

// humaPath is a ServeMux path as OpenAPI has it: it knows no rest of a path.
func humaPath(path string) string { return strings.ReplaceAll(path, "...}", "}") }

// add puts a route into the mux, behind the guard.
func (s *Server) add(rt route) { rt.do.mount(s, rt) }

// handle is where both kinds of routes end.
func (s *Server) handle(rt route, h http.Handler) {
	var sandbox func(*http.Request) string
	if strings.Contains(rt.path, "/{id}") {
		sandbox = s.sandboxID
	}
	wait := patience
	if _, ok := rt.do.(raw); ok {
		wait = streamPatience
	}
	h = s.figures.count(rt, s.guard.Require(rt.need, sandbox, pace(wait, h)))
	for _, mux := range []*http.ServeMux{s.table, s.mux} {
		mux.Handle(rt.method+" "+rt.path, h)
	}
}

// adapter is how huma's handlers get there.
type adapter struct{ s *Server }

func (a adapter) Handle(op *huma.Operation, h func(huma.Context)) {
	rt := op.Metadata[routeKey].(route)
	others := map[string]http.Handler{}
	if rt.events != nil {
		others["text/event-stream"] = a.s.serveRaw(rt, rt.events)
	}
	if rt.frames != nil {
		others[api.FramesType] = a.s.serveRaw(rt, rt.frames)
	}
	a.s.handle(rt, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for kind, other := range others {
			if wants(r, kind) {
				other.ServeHTTP(w, r)
				return
			}
		}
		h(humago.NewContext(op, r, w))
	}))
}

func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.s.mux.ServeHTTP(w, r) }

const routeKey = "route"
