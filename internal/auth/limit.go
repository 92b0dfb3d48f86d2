package auth

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// The reference's login limit: successes count too.
const (
	loginsPerWindow = 10
	loginWindow     = time.Minute
	maxAddresses    = 4096
)

// limited is an error that time mends.
type limited struct {
	err   *wire.Error
	after time.Duration
}

func (l *limited) Error() string { return l.err.Error() }
func (l *limited) Unwrap() error { return l.err }

func tooMany(after time.Duration, format string, args ...any) error {
	after = max(after, time.Second).Round(time.Second)
	return &limited{wire.Errorf(wire.Exhausted, format, args...).WithHint("try again in %v", after), after}
}

// RetryAfter is how long the caller who got err should wait, for the header of
// that name; 0 if waiting doesn't help.
func RetryAfter(err error) time.Duration {
	var l *limited
	if errors.As(err, &l) {
		return l.after
	}
	return 0
}

// loginLimit counts logins for each address. Its table has a bound: when it is
// full, who was seen first is forgotten.
type loginLimit struct {
	mu    sync.Mutex
	table map[netip.Addr]*window
}

type window struct {
	began time.Time
	count int
}

func (l *loginLimit) allow(addr netip.Addr, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table == nil {
		l.table = map[netip.Addr]*window{}
	}
	addr = network(addr)
	w := l.table[addr]
	if w == nil || now.Sub(w.began) >= loginWindow {
		if w == nil && len(l.table) >= maxAddresses {
			l.shrink(now)
		}
		w = &window{began: now}
		l.table[addr] = w
	}
	if w.count++; w.count > loginsPerWindow {
		return tooMany(loginWindow-now.Sub(w.began), "Too many login attempts")
	}
	return nil
}

func (l *loginLimit) shrink(now time.Time) {
	var oldest netip.Addr
	var began time.Time
	for a, w := range l.table {
		if now.Sub(w.began) >= loginWindow {
			delete(l.table, a)
		} else if began.IsZero() || w.began.Before(began) {
			oldest, began = a, w.began
		}
	}
	if len(l.table) >= maxAddresses {
		delete(l.table, oldest)
	}
}

// network is what one customer has: an IPv4 address, the /64 of an IPv6 one.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// keyLimit holds each key to its rate: a bucket that a minute fills.
type keyLimit struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func (l *keyLimit) allow(id string, perMinute int, now time.Time) error {
	if perMinute <= 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets == nil || len(l.buckets) > 2*maxKeys { // revoked ones have gathered
		l.buckets = map[string]*bucket{}
	}
	rate := float64(perMinute)
	b := l.buckets[id]
	if b == nil {
		b = &bucket{left: rate, at: now}
		l.buckets[id] = b
	}
	b.left = min(rate, b.left+max(0, now.Sub(b.at).Minutes())*rate)
	b.at = now
	if b.left < 1 {
		return tooMany(time.Duration((1-b.left)/rate*float64(time.Minute)), "this key may make %d requests a minute", perMinute)
	}
	b.left--
	return nil
}
