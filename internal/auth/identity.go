package auth

import (
	"context"
	"fmt"
)

// Kind is how a caller is known.
type Kind string

// The kinds. The zero value is a caller who isn't known.
const (
	ByKey     Kind = "key"
	BySession Kind = "session"   // the administrator, with the password
	Anonymous Kind = "anonymous" // anyone, while authentication is off
	Local     Kind = "local"     // whoever may open the server's own socket
)

// Identity is who makes a request, and what they may do.
type Identity struct {
	Kind   Kind    `json:"kind,omitempty"`
	ID     string  `json:"id,omitempty"`   // of the key
	Name   string  `json:"name,omitempty"` // of the key
	Scopes []Scope `json:"scopes,omitempty"`
	Limits Limits  `json:"limits"`

	credential string // what it was known by, for tickets and logout
}

// Known reports whether anything is known of the caller.
func (i Identity) Known() bool { return i.Kind != "" }

func (i Identity) String() string {
	switch i.Kind {
	case "":
		return "an unknown caller"
	case ByKey:
		return fmt.Sprintf("key %q (%s)", i.Name, i.ID)
	case BySession:
		return "the administrator"
	}
	return "a caller who is " + string(i.Kind)
}

func administrator(kind Kind) Identity { return Identity{Kind: kind, Scopes: []Scope{ScopeAdmin}} }

type contextKey int

const (
	identityKey contextKey = iota
	hintKey                // why a credential was refused
	recorderKey
)

// From is the caller of the request with this context.
func From(ctx context.Context) Identity {
	i, _ := ctx.Value(identityKey).(Identity)
	return i
}

// With gives a context its caller.
func With(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey, i)
}
