package server

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/auth"
)

// ticketParam is how a browser that has no key comes to a guest's host name.
const ticketParam = "bandsox_ticket"

// guestHost reads the host name of a server in a guest: PORT-REF.DOMAIN, where
// REF is a sandbox's id, or its name if a host name can hold it. Names of this
// shape are guests' alone: nothing of ours is answered by them, so that a page
// that a guest serves is of no origin with ours.
func guestHost(host, domain string) (port int, ref string, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	label, ok := strings.CutSuffix(host, "."+strings.ToLower(strings.Trim(domain, ".")))
	if !ok || strings.Contains(label, ".") {
		return 0, "", false
	}
	number, ref, ok := strings.Cut(label, "-")
	if !ok || ref == "" {
		return 0, "", false
	}
	port, err := portNumber(number)
	return port, ref, err == nil
}

// portNumber reads a TCP port.
func portNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' {
		return 0, invalid("port %q: want 1 to 65535", s)
	}
	return int(n), nil
}

// serveGuest answers a request to a guest's host name.
func (s *Server) serveGuest(w http.ResponseWriter, r *http.Request, port int, ref string) {
	clear(w.Header()) // what is set there is for our pages
	if err := s.visitGuest(w, r, port, ref); err != nil {
		relayError(w, r, s.asStatus(err, nil))
	}
}

func (s *Server) visitGuest(w http.ResponseWriter, r *http.Request, port int, ref string) error {
	id, missing := "", error(nil)
	sb, err := s.m.Get(r.Context(), ref)
	if err != nil {
		missing = err
	} else {
		id = sb.ID()
	}
	q := r.URL.Query()
	if ticket := q.Get(ticketParam); ticket != "" && id != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		q.Del(ticketParam)
		return s.admit(w, r, ticket, id, q.Encode())
	}
	if !auth.From(r.Context()).Known() {
		who, err := s.guard.Visitor(r, id)
		if err != nil {
			return err
		}
		r = r.WithContext(auth.With(r.Context(), who))
	}
	if err := s.allow(r.Context(), auth.NeedUse, id); err != nil {
		return err
	}
	if missing != nil {
		return missing
	}
	s.relayTo(w, r, relayed{id: id, port: port, path: r.URL.EscapedPath()})
	return nil
}

// admit exchanges a ticket for a cookie and sends the browser to the same URL
// without it. Who is let in anyway needs no cookie.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, ticket, id, query string) error {
	if err := s.guard.Admit(w, r, ticket, id); err != nil {
		_, unknown := s.guard.Visitor(r, id)
		if unknown != nil && s.allow(r.Context(), auth.NeedUse, id) != nil {
			return err
		}
	}
	to := "/" + strings.TrimLeft(r.URL.EscapedPath(), "/") // two slashes would be another host
	if query != "" {
		to += "?" + query
	}
	w.Header().Set("Location", to)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
	return nil
}
