package api

import (
	"time"

	"github.com/bandsox/bandsox/internal/auth"
)

// Login asks for a session.
type Login struct {
	_        struct{} `json:"-" additionalProperties:"true"`
	Password string   `json:"password"`
}

// LoggedIn is a session: the token is in the cookie too, and opens WebSockets.
type LoggedIn struct {
	Status string `json:"status"`
	Token  string `json:"token"`
}

// Authenticated says whether a caller is known.
type Authenticated struct {
	Authenticated bool `json:"authenticated" doc:"Always true while there are no keys"`
}

// CreateKey asks for a key.
type CreateKey struct {
	_         struct{}     `json:"-" additionalProperties:"true"`
	Name      string       `json:"name"`
	Scopes    []auth.Scope `json:"scopes,omitempty" doc:"admin, use, read, or sandbox: and a sandbox's id or name; none: admin"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty" doc:"Until when; none: for good"`
	auth.Limits
}

// Whoami is who makes a request, and what they may do and take.
type Whoami struct {
	auth.Identity
	Usage Usage `json:"usage" doc:"What the sandboxes that this key has made take"`
}

// Usage is what sandboxes take together.
type Usage struct {
	Sandboxes int `json:"sandboxes"`
	VCPU      int `json:"vcpu"`
	MemMiB    int `json:"mem_mib"`
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	ID   int64 `json:"id" doc:"Grows by one from each to the next"`
	Lost int64 `json:"lost,omitempty" doc:"So many before this one could not be written"`
	auth.Event
}
