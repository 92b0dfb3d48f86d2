package main

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/bandsox/bandsox/internal/auth"
)

// whereabouts is where a server is to be found.
type whereabouts struct {
	URL         string `json:"url,omitempty"`           // a browser on this machine opens it
	Elsewhere   string `json:"url_elsewhere,omitempty"` // and one on another
	Socket      string `json:"socket"`
	Certificate string `json:"certificate_sha256,omitempty"`
}

func (s *serveFlags) whereabouts(l *listener, c *auth.Certificate) whereabouts {
	w := whereabouts{Socket: l.Socket.Addr().String()}
	if l.TCP == nil {
		return w
	}
	scheme := "http"
	if c != nil {
		scheme, w.Certificate = "https", c.Fingerprint()
	}
	at, _ := l.TCP.Addr().(*net.TCPAddr)
	url := func(host string) string {
		return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(at.Port))
	}
	host := s.host
	if host == "" {
		host = at.IP.String()
	}
	// All addresses are none that can be opened.
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if out := outward(); out != "" {
			w.Elsewhere = url(out)
		}
	}
	w.URL = url(host)
	return w
}

// outward is the address of this machine that others are likely to know it by:
// that from which it would speak to them. Nothing is sent.
func outward() string {
	c, err := net.Dial("udp", "192.0.2.1:9") // an address for documentation
	if err != nil {
		return ""
	}
	defer c.Close()
	at, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok || at.IP.IsLoopback() {
		return ""
	}
	return at.IP.String()
}

// announce says where the server is to be found.
func (s *serveFlags) announce(l *listener, c *auth.Certificate, warning string) {
	if warning != "" {
		fmt.Fprintf(os.Stderr, "warning: %s\n", warning)
	}
	w := s.whereabouts(l, c)
	switch {
	case s.asJSON:
		_ = writeLine(w)
		return
	case w.URL == "":
		fmt.Printf("Listening on %s\n", w.Socket)
		return
	}
	if w.Certificate != "" {
		fmt.Printf("TLS certificate, SHA-256: %s\n", w.Certificate)
	}
	fmt.Printf("Starting dashboard at %s\n", w.URL)
	if w.Elsewhere != "" {
		fmt.Printf("From elsewhere: %s\n", w.Elsewhere)
	}
}
