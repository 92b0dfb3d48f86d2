package server

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/bandsox/bandsox/internal/auth"
)

// notGuests are headers by which a server speaks for a whole origin. By a path
// of ours the origin is ours.
var notGuests = []string{"Clear-Site-Data", "Strict-Transport-Security", "Service-Worker-Allowed", "Alt-Svc",
	"Cross-Origin-Opener-Policy", "Nel", "Report-To", "Reporting-Endpoints", "Origin-Agent-Cluster", "Sourcemap", "Public-Key-Pins"}

// tame takes from a guest's answer what would reach beyond the guest: cookies
// for more than its own host name and, by a path of ours, whatever isn't for
// that path alone. own are the headers that we want there.
func (to relayed) tame(h, own http.Header, asked string) {
	to.cookies(h)
	for k, v := range own {
		switch k {
		case "Content-Security-Policy": // two are both kept to
			h[k] = append(h[k], v...)
		case "Vary":
			h[k] = append(h[k], v...)
		default:
			h[k] = v
		}
	}
	if to.prefix == "" {
		return
	}
	for _, k := range notGuests {
		h.Del(k)
	}
	if l := h.Get("Location"); l != "" {
		h.Set("Location", to.location(l, asked))
	}
}

// location is where a redirect leads when it is asked for below the prefix.
func (to relayed) location(l, asked string) string {
	u, err := url.Parse(l)
	if err != nil || u.Opaque != "" {
		return l
	}
	switch {
	case u.Host != "" && (u.Scheme == "" || u.Scheme == "http" || u.Scheme == "https"):
		if !to.isSelf(u) && !strings.EqualFold(u.Host, asked) {
			return l // elsewhere
		}
		u.Scheme, u.Host = "", ""
	case u.Scheme != "" || !strings.HasPrefix(u.Path, "/"):
		return l // relative to what was asked for
	}
	path := "/" + strings.TrimLeft(u.EscapedPath(), "/")
	if path != to.prefix && !strings.HasPrefix(path, to.prefix+"/") { // some servers heed X-Forwarded-Prefix
		path = to.prefix + path
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		path += "#" + u.EscapedFragment()
	}
	return path
}

// isSelf reports whether a URL is of the server as it knows itself.
func (to relayed) isSelf(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if _, want, _ := net.SplitHostPort(to.host()); port != want {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// cookies keeps a guest's to its own host name and path, and ours out of its hands.
func (to relayed) cookies(h http.Header) {
	const name = "Set-Cookie"
	lines := h[name]
	h.Del(name)
	for _, line := range lines {
		c, err := http.ParseSetCookie(line)
		if err != nil || c.Name == auth.CookieName || c.Name == auth.GuestCookie {
			continue
		}
		if c.Domain == "" && to.prefix == "" {
			h.Add(name, line)
			continue
		}
		c.Domain = ""
		if to.prefix != "" && strings.HasPrefix(c.Path, "/") && !strings.HasPrefix(c.Path, to.prefix+"/") {
			c.Path = to.prefix + c.Path
		}
		if line = c.String(); line != "" {
			h.Add(name, line)
		}
	}
}
