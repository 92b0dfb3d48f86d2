package auth

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// TestAllow has a row for each caller, and in it what becomes of each need:
// without a sandbox, with one's own, and with another.
func TestAllow(t *testing.T) {
	const mine, other = "abcdefghij0123456789", "zzzzzzzzzzzzzzzzzzzz"
	key := func(s ...Scope) Identity { return Identity{Kind: ByKey, ID: "k", Scopes: s} }
	rows := []struct {
		name string
		who  Identity
		want string // y allowed, n denied, u unauthorized
	}{
		//                                          admin   use     read    any     none
		{"unknown", Identity{}, "                   u u u   u u u   u u u   u u u   y y y"},
		{"scopes without a kind", Identity{Scopes: []Scope{ScopeAdmin}}, "u u u u u u u u u u u u y y y"},
		{"admin", key(ScopeAdmin), "                y y y   y y y   y y y   y y y   y y y"},
		{"session", administrator(BySession), "     y y y   y y y   y y y   y y y   y y y"},
		{"anonymous", administrator(Anonymous), "   y y y   y y y   y y y   y y y   y y y"},
		{"use", key(ScopeUse), "                    n n n   y y y   y y y   y y y   y y y"},
		{"read", key(ScopeRead), "                  n n n   n n n   y y y   y y y   y y y"},
		{"one sandbox", key(OnSandbox(mine)), "     n n n   n y n   n y n   y y y   y y y"},
		{"two", key(OnSandbox(mine), OnSandbox(other)), "n n n n y y n y y y y y y y y"},
		{"read, one", key(ScopeRead, OnSandbox(mine)), "n n n n y n y y y y y y y y y"},
		{"no scope", key(), "                       n n n   n n n   n n n   y y y   y y y"},
		{"a later version's", key("snapshots"), "   n n n   n n n   n n n   y y y   y y y"},
		{"sandbox of no name", key(OnSandbox("")), "n n n   n n n   n n n   y y y   y y y"},
	}
	for _, row := range rows {
		want := strings.Fields(row.want)
		for i, need := range []Need{NeedAdmin, NeedUse, NeedRead, NeedAny, NeedNone} {
			for j, sandbox := range []string{"", mine, other} {
				got := "y"
				switch err := Allow(row.who, need, sandbox); {
				case wire.CodeOf(err) == wire.Unauthorized:
					got = "u"
				case wire.CodeOf(err) == wire.Denied:
					got = "n"
				case err != nil:
					got = err.Error()
				}
				if got != want[3*i+j] {
					t.Errorf("%s, need %v, sandbox %q: %s, want %s", row.name, need, sandbox, got, want[3*i+j])
				}
				if need == NeedRead && row.who.Sees(sandbox) != (got == "y") {
					t.Errorf("%s: Sees(%q) differs from Allow", row.name, sandbox)
				}
			}
		}
	}
	if Allow(key(ScopeUse), *new(Need), mine) == nil {
		t.Error("a need that nobody set is not the strictest")
	}
}

func TestQuota(t *testing.T) {
	for _, c := range []struct {
		name       string
		limits     Limits
		have, more Usage
		ok         bool
	}{
		{"no limit", Limits{}, Usage{1000, 1000, 1 << 40}, Usage{1, 1, 1}, true},
		{"room", Limits{MaxSandboxes: 2, MaxVCPU: 4, MaxMemMiB: 512}, Usage{1, 2, 256}, Usage{1, 2, 256}, true},
		{"sandboxes", Limits{MaxSandboxes: 2}, Usage{2, 0, 0}, Usage{1, 1, 1}, false},
		{"processors", Limits{MaxVCPU: 4}, Usage{1, 3, 0}, Usage{1, 2, 1}, false},
		{"memory", Limits{MaxMemMiB: 512}, Usage{1, 1, 512}, Usage{0, 0, 1}, false},
		{"over already, asks for none", Limits{MaxSandboxes: 2, MaxMemMiB: 9}, Usage{3, 0, 9}, Usage{}, true},
		{"asks for all there is", Limits{MaxMemMiB: 1}, Usage{1, 1, 1}, Usage{1, 1, math.MaxInt}, false},
	} {
		err := c.limits.Check(c.have, c.more)
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			wantCode(t, err, wire.Exhausted)
		}
	}
}

func TestLoginLimit(t *testing.T) {
	var l loginLimit
	now := time.Now()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 10 {
		if err := l.allow(a, now); err != nil {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
	err := l.allow(a, now.Add(20*time.Second))
	wantCode(t, err, wire.Exhausted)
	if got := RetryAfter(err); got != 40*time.Second {
		t.Errorf("retry after %v, want 40s", got)
	}
	wantCode(t, l.allow(netip.MustParseAddr("::ffff:192.0.2.1"), now), wire.Exhausted)
	if err := l.allow(b, now); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := l.allow(a, now.Add(time.Minute)); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	// One network of IPv6 is one caller.
	for i := range 11 {
		err = l.allow(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}), now)
	}
	wantCode(t, err, wire.Exhausted)
	// The table is bounded, and who came last is still counted.
	const n = maxAddresses + 500
	for i := range n {
		_ = l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now.Add(time.Duration(i)))
	}
	if len(l.table) > maxAddresses {
		t.Errorf("the table has grown to %d", len(l.table))
	}
	last := netip.AddrFrom4([4]byte{10, 0, byte((n - 1) >> 8), byte((n - 1) & 0xff)})
	for range 10 {
		err = l.allow(last, now.Add(time.Second))
	}
	wantCode(t, err, wire.Exhausted)
}

func TestKeyRate(t *testing.T) {
	var l keyLimit
	now := time.Now()
	for i := range 60 {
		if err := l.allow("a", 60, now); err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	err := l.allow("a", 60, now)
	wantCode(t, err, wire.Exhausted)
	if RetryAfter(err) != time.Second {
		t.Errorf("retry after %v, want 1s", RetryAfter(err))
	}
	if err := l.allow("b", 60, now); err != nil {
		t.Errorf("another key: %v", err)
	}
	if err := l.allow("a", 0, now); err != nil {
		t.Errorf("no limit: %v", err)
	}
	if err := l.allow("a", 60, now.Add(1100*time.Millisecond)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	wantCode(t, l.allow("a", 60, now.Add(1200*time.Millisecond)), wire.Exhausted)
	if err := l.allow("a", 60, now.Add(-time.Hour)); wire.CodeOf(err) != wire.Exhausted {
		t.Errorf("a clock set back gave requests away: %v", err)
	}
}
