package auth

import (
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Error is what the functions of this package fail with, so that its callers
// can tell the kind and the hint.
type Error = wire.Error

// Scope is a part of what may be done. Those of a key add up; one that we don't
// know grants nothing.
type Scope string

// The scopes, and sandbox:ID as OnSandbox makes them.
const (
	ScopeAdmin Scope = "admin" // everything, keys and the host's settings too
	ScopeUse   Scope = "use"   // make sandboxes and do everything with any of them
	ScopeRead  Scope = "read"  // look at everything, change and run nothing
)

const sandboxScope = "sandbox:"

// OnSandbox is the scope of everything with one sandbox. It takes the id: a
// name may come to be another sandbox's.
func OnSandbox(id string) Scope { return Scope(sandboxScope + id) }

func (s Scope) check() error {
	if id, ok := strings.CutPrefix(string(s), sandboxScope); ok {
		if id == "" || len(id) > 64 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
			return wire.Errorf(wire.Invalid, "scope %q: %q is not the id of a sandbox", s, id).WithHint("bandsox ps shows the ids")
		}
		return nil
	}
	if s != ScopeAdmin && s != ScopeUse && s != ScopeRead {
		return wire.Errorf(wire.Invalid, "scope %q: must be admin, use, read or sandbox:ID", s)
	}
	return nil
}

// Limits bound what one key may take. Zero is no limit.
type Limits struct {
	RatePerMinute int `json:"rate_per_minute,omitempty"` // requests
	MaxSandboxes  int `json:"max_sandboxes,omitempty"`
	MaxVCPU       int `json:"max_vcpu,omitempty"`
	MaxMemMiB     int `json:"max_mem_mib,omitempty"`
}

// Usage is what the sandboxes that a key made take together.
type Usage struct{ Sandboxes, VCPU, MemMiB int }

// Check says whether there is room for more beside what is there.
func (l Limits) Check(have, more Usage) error {
	for _, q := range []struct {
		what              string
		limit, have, more int
	}{
		{"sandboxes", l.MaxSandboxes, have.Sandboxes, more.Sandboxes},
		{"virtual processors", l.MaxVCPU, have.VCPU, more.VCPU},
		{"MiB of memory", l.MaxMemMiB, have.MemMiB, more.MemMiB},
	} {
		if q.limit > 0 && q.more > 0 && q.more > q.limit-q.have {
			return wire.Errorf(wire.Exhausted, "this key's quota is %d %s: %d in use, %d more asked for", q.limit, q.what, q.have, q.more).
				WithHint("delete sandboxes of this key, or ask for a key with a larger quota")
		}
	}
	return nil
}

func (l Limits) check() error {
	if l.RatePerMinute < 0 || l.MaxSandboxes < 0 || l.MaxVCPU < 0 || l.MaxMemMiB < 0 {
		return wire.Errorf(wire.Invalid, "a key's limits can't be negative; 0 is no limit")
	}
	return nil
}

// Need is what a route asks of its caller. The zero value asks for the most.
type Need int

// The needs.
const (
	NeedAdmin Need = iota // keys, the host
	NeedUse               // make a sandbox; change one, or run something in it
	NeedRead              // look at one; at all of them if no sandbox is named
	NeedAny               // any caller who is known: lists, which show what Identity.Sees
	NeedNone              // anyone: login, health
)

func (n Need) String() string { return [...]string{"admin", "use", "read", "any key", "nothing"}[n] }

// Allow says whether a caller may do what needs need, with the sandbox of this
// id if it is about one. Ask before looking whether there is such a sandbox, so
// that the answer to those who may not doesn't tell.
func Allow(who Identity, need Need, sandbox string) error {
	switch {
	case need == NeedNone:
		return nil
	case !who.Known():
		return unauthorized("")
	case need == NeedAny,
		who.has(ScopeAdmin),
		need >= NeedUse && who.has(ScopeUse),
		need >= NeedRead && who.has(ScopeRead),
		need >= NeedUse && sandbox != "" && who.has(OnSandbox(sandbox)):
		return nil
	}
	what := "this"
	if sandbox != "" {
		what = "this with sandbox " + sandbox
	}
	return wire.Errorf(wire.Denied, "%s may not do %s: it takes the scope %s", who, what, need).
		WithHint("bandsox auth create-key NAME --scope %s", need)
}

func unauthorized(hint string) *wire.Error {
	if hint == "" {
		hint = "send Authorization: Bearer KEY, or log in; bandsox auth create-key NAME makes a key"
	}
	return wire.Errorf(wire.Unauthorized, "Unauthorized").WithHint("%s", hint)
}

// Sees reports whether a list may show the caller this sandbox.
func (i Identity) Sees(sandbox string) bool { return Allow(i, NeedRead, sandbox) == nil }

func (i Identity) has(s Scope) bool { return slices.Contains(i.Scopes, s) }
