package auth

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// address is where a request comes from; not valid for a socket's.
func address(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// FromHere reports whether a request was made on this machine: a proxy's is not
// when it says that it only passes it on.
func FromHere(r *http.Request) bool {
	if !address(r).IsLoopback() || r.Header.Get("Forwarded") != "" {
		return false
	}
	for _, v := range r.Header["X-Forwarded-For"] {
		for a := range strings.SplitSeq(v, ",") {
			if ip, err := netip.ParseAddr(strings.TrimSpace(a)); err != nil || !ip.Unmap().IsLoopback() {
				return false
			}
		}
	}
	return true
}

// checkHost refuses a foreign name: another site's page can have its own name
// lead to this machine, and would then be of one origin with us. An address is
// never foreign, since no page can come from ours but our own. Where keys are
// needed such a page has none, and no cookie of ours; so names are checked only
// if some are configured.
func (g *Guard) checkHost(r *http.Request, keys bool) error {
	if keys && len(g.o.Hosts) == 0 || hostAllowed(r.Host, g.o.Hosts) || g.o.Guest != nil && g.o.Guest(r.Host) {
		return nil
	}
	return wire.Errorf(wire.Denied, "this server is not known as %q", hostName(r.Host)).
		WithHint("call it by an address or localhost, or serve with --allow-host %s", hostName(r.Host))
}

func hostAllowed(host string, allowed []string) bool {
	name := hostName(host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && slices.ContainsFunc(allowed, func(a string) bool {
		a = strings.ToLower(strings.TrimSuffix(a, "."))
		if suffix, ok := strings.CutPrefix(a, "*"); ok && strings.HasPrefix(suffix, ".") {
			return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
		}
		return a == name
	})
}

// hostName is a Host header without its port.
func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkOrigin refuses what another site's page does with what a browser adds by
// itself: the cookie, or being on this machine. A WebSocket counts as a change,
// whatever its method.
func (g *Guard) checkOrigin(r *http.Request) error {
	if safe(r) {
		return nil
	}
	as := *r
	as.Method = http.MethodPost
	if err := g.origins.Check(&as); err != nil {
		denied := wire.Errorf(wire.Denied, "a page of another site may not do this")
		if r.Header.Get("Origin") == "" { // Sec-Fetch-Site alone told
			return denied.WithHint("call with a key")
		}
		return denied.WithHint("call with a key, or serve with --allow-origin %s", r.Header.Get("Origin"))
	}
	return nil
}

// safe reports whether a request only looks.
func safe(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return !IsWebSocket(r)
	}
	return false
}

// cors lets the pages of the listed origins read our answers, and answers a
// browser's question beforehand. Cookies are never for them: they bring a key.
func (g *Guard) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	origin := r.Header.Get("Origin")
	if len(g.o.Origins) == 0 || origin == "" {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if !slices.Contains(g.o.Origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Content-Disposition, Content-Range, ETag, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Range, If-Match, If-None-Match, If-Range, Last-Event-ID")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// GuestPolicy is the Content-Security-Policy of what a guest serves under our
// own name (the proxy by path): scripts run, but in an origin of their own,
// without our cookie and without a way to our API.
const GuestPolicy = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"

// Headers sets what keeps a browser from doing more with our answers than we
// mean. policy is the pages' Content-Security-Policy; a handler may set another.
func Headers(policy string, next http.Handler) http.Handler {
	fixed := http.Header{
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"},
		"Referrer-Policy":              {"no-referrer"},
		"Cross-Origin-Opener-Policy":   {"same-origin"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Permissions-Policy":           {"camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
	}
	if policy != "" {
		fixed.Set("Content-Security-Policy", policy)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), fixed) // whose values nobody changes, only replaces
		next.ServeHTTP(w, r)
	})
}
