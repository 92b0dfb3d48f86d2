package server

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

var relayRoutes = []route{
	{path: "/proxy/{id}/{port}/{path...}", need: auth.NeedUse, tag: tagPorts, summary: "Pass a request on to a server in a sandbox",
		notRunning: http.StatusServiceUnavailable, do: prefixed{(*Server).proxyPath}},
	{method: "POST", path: "/api/vms/{id}/http", need: auth.NeedUse, tag: tagPorts, summary: "Make an HTTP request to a server in a sandbox",
		about:      "Redirects are followed within the server. What is larger than 16 MiB, or should stream, goes by /proxy/{id}/{port}/.",
		notRunning: http.StatusNotFound, do: call((*Server).requestVM)},
	{method: "GET", path: "/api/vms/{id}/dial", need: auth.NeedUse, tag: tagPorts, summary: "Connect to a port in a sandbox, over a WebSocket",
		about: "Binary frames are the connection's bytes, both ways. The text frame {\"type\":\"end\"} says that one side has sent all it will; " +
			"after both the WebSocket is closed with 1000. A connection that breaks closes it with 1011. " +
			"What can't be connected is answered before the WebSocket begins: 502 if nothing listens on the port.",
		notRunning: http.StatusServiceUnavailable, do: stream((*Server).dialVM, dialDoc)},
}

// portsAbout documents what no route of an OpenAPI document can be.
const portsAbout = "Any request to `/proxy/{id}/{port}/…`, whatever its method, goes to the server that listens on that port in the " +
	"sandbox; WebSockets and streams too. For browsers every such server has a host name of its own, `{port}-{id}.DOMAIN`: " +
	"`8080-{id}.localhost:8000` where nothing else was said. Neither takes a network in the sandbox."

// idleGuestConn is how long a connection to a guest's server is kept for the
// next request. While it is open its sandbox is in use, so it is short.
const idleGuestConn = 5 * time.Second

// guestTransport has connections to all servers in all guests, by the host
// ID:PORT. Those of a sandbox that stops end with it.
func (s *Server) guestTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, text, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			port, err := portNumber(text)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			sb, err := s.m.Get(ctx, id)
			if err != nil {
				return nil, err
			}
			return sb.Dial(ctx, port)
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        idleGuestConn,
		ExpectContinueTimeout:  5 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		ReadBufferSize:         32 << 10,
		WriteBufferSize:        32 << 10,
	}
}

// relayed is where a request is passed on to.
type relayed struct {
	id     string
	port   int
	path   string // escaped, begins with /
	prefix string // of the path by which we are asked, if it is one of ours; it ends without /
}

func (to relayed) host() string { return net.JoinHostPort(to.id, strconv.Itoa(to.port)) }

// relayTo passes a request on, and its answer back, as they come: nothing is
// held, and a protocol that it is upgraded to goes through.
func (s *Server) relayTo(w http.ResponseWriter, r *http.Request, to relayed) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if r.Header.Get("Upgrade") != "" {
		defer context.AfterFunc(s.closing, cancel)()
	}
	own := w.Header().Clone()
	clear(w.Header()) // ReverseProxy would add the guest's to them, and drop both after an early hint
	proxy := httputil.ReverseProxy{
		Transport:     s.guests,
		FlushInterval: -1,
		BufferPool:    relayBuffers{},
		ErrorLog:      slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		Rewrite:       func(p *httputil.ProxyRequest) { s.rewrite(p, to) },
		ModifyResponse: func(res *http.Response) error {
			if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
				stop := context.AfterFunc(s.closing, cancel)
				context.AfterFunc(ctx, func() { stop() })
			}
			to.tame(res.Header, own, r.Host)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			for k, v := range own {
				w.Header()[k] = v
			}
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler) // nobody is there to be told
			}
			relayError(w, r, s.guestFailure(err, to.port))
		},
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

// rewrite makes the request that a guest's server gets: nothing in it is ours.
func (s *Server) rewrite(p *httputil.ProxyRequest, to relayed) {
	in, out := p.In, p.Out
	path, _ := url.PathUnescape(to.path) // it was parsed before
	out.URL = &url.URL{Scheme: "http", Host: to.host(), Path: path, RawPath: to.path, RawQuery: in.URL.RawQuery}
	auth.Strip(out)
	if q := out.URL.Query(); q.Has(ticketParam) {
		q.Del(ticketParam)
		out.URL.RawQuery = q.Encode()
	}
	for _, k := range []string{"X-Forwarded-Prefix", "X-Forwarded-Port", "X-Real-Ip"} {
		out.Header.Del(k)
	}
	p.SetXForwarded()
	if s.guard.SecureCookies(in) {
		out.Header.Set("X-Forwarded-Proto", "https")
	}
	if to.prefix == "" {
		out.Host = in.Host
		return
	}
	// What most servers take for theirs, whatever they are asked by.
	out.Host = "localhost:" + strconv.Itoa(to.port)
	out.Header.Set("X-Forwarded-Prefix", to.prefix)
	if o, err := url.Parse(in.Header.Get("Origin")); err == nil && o.Host != "" && strings.EqualFold(o.Host, in.Host) {
		out.Header.Set("Origin", "http://"+out.Host)
	}
}

// relayBuffers are what bodies are copied by.
type relayBuffers struct{}

var relayPool = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func (relayBuffers) Get() []byte  { return relayPool.Get().(*[64 << 10]byte)[:] }
func (relayBuffers) Put(b []byte) { relayPool.Put((*[64 << 10]byte)(b)) }

// prefixed is a route for everything below a path, which is passed on as it is:
// the mux would clean it first.
type prefixed struct {
	f func(s *Server, w http.ResponseWriter, r *http.Request) error
}

func (h prefixed) mount(s *Server, rt route) {
	s.proxy = s.guard.Require(rt.need, s.sandboxID, s.serveRaw(rt, h.f))
}

// serveProxy answers a request by the path /proxy/ID/PORT/….
func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.EscapedPath(), proxyPrefix), "/", 3)
	for i, name := range []string{"id", "port", "path"} {
		if i < len(parts) {
			v, err := url.PathUnescape(parts[i])
			if err != nil || name == "path" {
				v = parts[i]
			}
			r.SetPathValue(name, v)
		}
	}
	s.proxy.ServeHTTP(w, r)
}

const proxyPrefix = "/proxy/"

func (s *Server) proxyPath(w http.ResponseWriter, r *http.Request) error {
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	port, err := portNumber(r.PathValue("port"))
	if err != nil {
		return err
	}
	prefix := proxyPrefix + url.PathEscape(r.PathValue("id")) + "/" + strconv.Itoa(port)
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
	if !ok { // written in another way
		path = "/" + r.PathValue("path")
	}
	if path == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == "" {
		to := prefix + "/" // what a page's links are relative to
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	if path == "" {
		path = "/"
	}
	// A page under this policy is of no origin, not even with what it loads itself.
	w.Header().Set("Content-Security-Policy", auth.GuestPolicy)
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.Header().Del("Cross-Origin-Opener-Policy")
	s.relayTo(w, r, relayed{id: sb.ID(), port: port, path: path, prefix: prefix})
	return nil
}

// guestFailure is why a server in a guest gave no answer.
func (s *Server) guestFailure(err error, port int) *api.Error {
	status := 0
	switch {
	case s.closing.Err() != nil && errors.Is(err, context.Canceled):
		err = wire.Errorf(wire.Unavailable, "this server is about to stop")
	case errors.Is(err, syscall.ECONNREFUSED):
		status = http.StatusBadGateway
	case !ownFailure(err):
		err = wire.Errorf(wire.Unavailable, "the server on port %d of the sandbox gave no good answer: %v", port, err)
		status = http.StatusBadGateway
	}
	e := s.asStatus(err, &route{path: proxyPrefix, notRunning: http.StatusServiceUnavailable})
	if status != 0 {
		e.Status = status
	}
	return e
}

// relayError answers a request that is not answered by a guest's server: with a
// page if a browser shows it.
func relayError(w http.ResponseWriter, r *http.Request, e *api.Error) {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		write(w, e)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(e.Status)
	fmt.Fprintf(w, errorPage, e.Status, html.EscapeString(http.StatusText(e.Status)), html.EscapeString(e.Detail.String()), html.EscapeString(e.Hint))
}

const errorPage = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%d %s</title><style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;max-width:40rem;margin:15vh auto;padding:0 1rem}</style>
<h1>%[2]s</h1><p>%[3]s</p><p>%[4]s</p></html>
`

// ownFailure reports whether an error is ours or the sandbox's, and not that of
// the program that serves there.
func ownFailure(err error) bool {
	var of *bandsox.Error
	return errors.As(err, &of) || errors.Is(err, wire.ErrSession)
}
