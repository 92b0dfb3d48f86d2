package auth

import (
	"net"
	"net/netip"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// DefaultHost is where to listen when nothing is said: on this machine until
// there are keys, then everywhere, as the reference does.
func DefaultHost(keys bool) string {
	if keys {
		return "0.0.0.0"
	}
	return "127.0.0.1"
}

// CheckListen says whether a server may listen at an address, HOST:PORT or
// unix:PATH: an error if not, and else what to warn of, if anything.
func CheckListen(addr string, keys, insecure, tls bool) (warning string, err error) {
	if strings.HasPrefix(addr, "unix:") {
		return "", nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", wire.Errorf(wire.Invalid, "listening on %q: %w", addr, err).WithHint("an address is HOST:PORT")
	}
	switch {
	case loopback(host):
		return "", nil
	case keys && tls:
		return "", nil
	case keys:
		return "keys and passwords go to and from " + addr + " unencrypted: use --tls, or a proxy that speaks TLS", nil
	case insecure:
		return "anyone who reaches " + addr + " may run programs here: there are no keys and --insecure was given", nil
	}
	return "", wire.Errorf(wire.Denied, "listening on %s would let anyone in: there are no keys", addr).
		WithHint("bandsox auth init; or listen on 127.0.0.1; or --insecure, if the network is yours alone")
}

// loopback reports whether a host is this machine only. A name other than
// localhost may lead anywhere.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
