// Package server puts the library on HTTP. Its routes are data: a table that
// says for each what it takes to call it, what it does, and what its
// documentation says; the OpenAPI document is made from the same table.
package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

// Options are what a server is made of.
type Options struct {
	Manager *bandsox.Manager
	Auth    *auth.Store
	Guard   auth.Options // WriteError is the server's own
	Version string
	// Shutdown ends the server's program, as POST /api/shutdown asks.
	Shutdown func()
	// Webhooks is the file in which whom to tell of events is kept; "": nowhere.
	Webhooks string
	// Domain is what the host names of guests' servers end with: PORT-ID.DOMAIN.
	// The default is localhost, whose names browsers look up nowhere.
	Domain string
	Log    *slog.Logger // default: slog.Default()
	Audit  string       // the file to write down in who did what; "": it isn't
	// Settings are the flags that shape the manager, for who may open the socket
	// to compare theirs with.
	Settings []string
}

// Server answers the requests of one manager's users.
type Server struct {
	m       *bandsox.Manager
	keys    *auth.Store
	guard   *auth.Guard
	version string
	log     *slog.Logger

	settings []string
	started  time.Time

	proxied bool // every request may come from elsewhere, through a proxy

	quotas   quotas
	shutdown func()
	hooks    *webhooks
	traffic  traffic
	figures  *figures
	audit    *audit
	domain   string
	guests   *http.Transport // to servers in guests
	proxy    http.Handler    // of /proxy/…

	api    huma.API
	routes []route
	table  *http.ServeMux // of the routes: it knows what methods a path takes
	mux    *http.ServeMux // the same, and for the rest what is JSON too
	root   http.Handler

	closing context.Context // done when streams are to end
	close   context.CancelFunc
}

// New makes a server. Close it when no requests come any more.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{m: o.Manager, keys: o.Auth, version: o.Version, log: o.Log, settings: o.Settings, started: time.Now(), shutdown: o.Shutdown,
		table: http.NewServeMux(), mux: http.NewServeMux(),
		proxied: o.Guard.Secure, figures: newFigures()}
	s.traffic.last = s.started
	if o.Guard.Local == nil {
		o.Guard.Local = fromSocket
	}
	s.domain = cmp.Or(o.Domain, "localhost")
	s.guests = s.guestTransport()
	o.Guard.Guest = func(host string) bool { _, _, ok := guestHost(host, s.domain); return ok }
	o.Guard.WriteError = func(w http.ResponseWriter, r *http.Request, err error) {
		if !refuseSocket(w, r, err) {
			s.writeError(w, err, nil)
		}
	}
	var err error
	if s.audit, err = openAudit(o.Audit, o.Log); err != nil {
		return nil, err
	}
	if s.audit != nil && o.Guard.Audit == nil {
		o.Guard.Audit = s.audit.note
	}
	if s.guard, err = auth.NewGuard(o.Auth, o.Guard); err != nil {
		return nil, errors.Join(err, s.audit.close())
	}
	s.closing, s.close = context.WithCancel(context.Background())
	if s.hooks, err = openWebhooks(s.closing, o.Manager, o.Webhooks); err != nil {
		return nil, errors.Join(err, s.audit.close())
	}
	s.api = huma.NewAPI(openAPI(o.Version), adapter{s})
	s.routes = routes()
	for _, rt := range s.routes {
		s.add(rt)
	}
	s.mux.HandleFunc("/", s.serveNothing)
	s.root = auth.Headers(pagePolicy, s.guard.Authenticate(http.HandlerFunc(s.serve)))
	return s, nil
}

// pagePolicy is the Content-Security-Policy of our own pages: everything they
// use comes from here.
const pagePolicy = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.traffic.enter(r)()
	s.root.ServeHTTP(w, r)
}

// serve finds the route.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if port, ref, ok := guestHost(r.Host, s.domain); ok {
		s.serveGuest(w, r, port, ref)
		return
	}
	if strings.HasPrefix(r.URL.Path, proxyPrefix) {
		s.serveProxy(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// serveNothing answers what there is no route for.
func (s *Server) serveNothing(w http.ResponseWriter, r *http.Request) {
	s.figures.lost()
	var probe statusProbe
	h, _ := s.table.Handler(r)
	h.ServeHTTP(&probe, r)
	if allow := probe.Header().Get("Allow"); probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		writeStatus(w, http.StatusMethodNotAllowed, "Method Not Allowed", "this path takes "+allow)
		return
	}
	hint := "GET /openapi.json lists the routes"
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		hint = ""
	}
	writeStatus(w, http.StatusNotFound, "Not Found", hint)
}

// statusProbe takes only an answer's status and headers.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header {
	if p.header == nil {
		p.header = http.Header{}
	}
	return p.header
}
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }

// EndStreams ends what goes on until its reader leaves: streams of events,
// terminals. A server that shuts down calls it first.
func (s *Server) EndStreams() { s.close() }

// Close writes down what is still to be. The manager is its owner's to close.
func (s *Server) Close() error {
	s.close()
	s.guests.CloseIdleConnections()
	return errors.Join(s.hooks.close(), s.guard.Close(), s.audit.close())
}

// sandbox finds the one that a request's path names.
func (s *Server) sandbox(ctx context.Context, ref string) (*bandsox.Sandbox, error) {
	return s.m.Get(ctx, ref)
}

// sandboxID is the id of the sandbox that a request's path names, "" if there
// is none. From here on the path has the id: a name may come to be another's
// before it is looked up again.
func (s *Server) sandboxID(r *http.Request) string {
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return ""
	}
	r.SetPathValue("id", sb.ID())
	return sb.ID()
}

// need fails unless the caller of a request may do this with the sandbox.
func (s *Server) allow(ctx context.Context, need auth.Need, sandbox string) error {
	return s.guard.Allow(ctx, need, sandbox)
}

// invalid is the error of a request that can't be meant.
func invalid(format string, args ...any) *wire.Error {
	return wire.Errorf(wire.Invalid, format, args...)
}
