package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// CookieName is the session cookie's name: the reference's.
const CookieName = "bandsox_session"

// The subprotocols of a WebSocket, and the code that one is closed with when
// its caller isn't known.
const (
	TerminalProtocol  = "bandsox.terminal"
	protocolPrefix    = "bandsox.auth."
	CloseUnauthorized = 4001
)

// IsWebSocket reports whether a request wants to become a WebSocket.
func IsWebSocket(r *http.Request) bool {
	return hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// Subprotocol is what to accept a WebSocket with: the terminal's protocol where
// the client offers it, else none. The one that carries a token isn't echoed.
func Subprotocol(r *http.Request) string {
	if hasToken(r.Header["Sec-Websocket-Protocol"], TerminalProtocol) {
		return TerminalProtocol
	}
	return ""
}

// presented is what a request shows of its caller.
type presented struct {
	bearer  string   // the header: a key
	tokens  []string // a WebSocket's: keys, session tokens, tickets
	cookies []string // session tokens; a browser may send several of one name
}

func credentials(r *http.Request) presented {
	var p presented
	if scheme, v, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		p.bearer = strings.TrimSpace(v)
	}
	for i, c := range r.CookiesNamed(CookieName) {
		if i < 8 { // each costs a signature
			p.cookies = append(p.cookies, c.Value)
		}
	}
	if !IsWebSocket(r) {
		return p
	}
	q := r.URL.Query()
	for _, name := range []string{"token", "ticket"} {
		if v := q.Get(name); v != "" {
			p.tokens = append(p.tokens, v)
		}
	}
	if v := protocolToken(r.Header["Sec-Websocket-Protocol"]); v != "" {
		p.tokens = append(p.tokens, v)
	}
	return p
}

// protocolToken finds the token that a subprotocol carries.
func protocolToken(values []string) string {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			text, ok := strings.CutPrefix(strings.TrimSpace(t), protocolPrefix)
			if !ok || len(text) > 256 {
				continue
			}
			if b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "=")); err == nil && len(b) > 0 {
				return string(b)
			}
		}
	}
	return ""
}

// Strip takes what is meant for us from a request that goes on to a guest: it
// is not trusted with anyone's key.
func Strip(r *http.Request) {
	if _, v, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.HasPrefix(strings.TrimSpace(v), keyPrefix) {
		r.Header.Del("Authorization")
	}
	var kept []string
	for _, c := range r.Cookies() {
		if c.Name != CookieName && c.Name != GuestCookie {
			kept = append(kept, c.String())
		}
	}
	r.Header.Del("Cookie")
	if len(kept) > 0 {
		r.Header.Set("Cookie", strings.Join(kept, "; "))
	}
	if !IsWebSocket(r) {
		return
	}
	stripProtocols(r.Header)
	q := r.URL.Query()
	for _, name := range []string{"token", "ticket"} {
		if v := q.Get(name); v != "" && (strings.HasPrefix(v, keyPrefix) || v == From(r.Context()).credential) {
			q.Del(name)
			r.URL.RawQuery = q.Encode()
		}
	}
}

func stripProtocols(h http.Header) {
	const name = "Sec-Websocket-Protocol"
	var kept []string
	for _, v := range h[name] {
		for t := range strings.SplitSeq(v, ",") {
			if t = strings.TrimSpace(t); !strings.HasPrefix(t, protocolPrefix) {
				kept = append(kept, t)
			}
		}
	}
	h.Del(name)
	if len(kept) > 0 {
		h.Set(name, strings.Join(kept, ", "))
	}
}

// SetCookie gives the browser its session. secure says that it came over TLS,
// here or at a proxy in front.
func SetCookie(w http.ResponseWriter, s Session, secure bool) {
	http.SetCookie(w, &http.Cookie{
		Name: CookieName, Value: s.Token, Path: "/", MaxAge: int(SessionTime / time.Second),
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
}

// ClearCookie takes it away.
func ClearCookie(w http.ResponseWriter, secure bool) {
	http.SetCookie(w, &http.Cookie{
		Name: CookieName, Path: "/", MaxAge: -1,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
}
