package auth

import (
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	ticketPrefix = "bsx_t_"
	ticketTime   = 30 * time.Second
	maxTickets   = 4096
)

// Ticket lets its holder open one WebSocket, or a guest's server in a browser,
// soon. It is for those who can set no header, so that a URL, which ends up in
// logs, holds nothing that lasts.
type Ticket struct {
	Ticket    string    `json:"ticket"`
	ExpiresAt time.Time `json:"expires_at"`
}

// tickets are those not yet used, with the credential that each stands for: it
// is looked at again when the ticket is used.
type tickets struct {
	mu   sync.Mutex
	open map[string]ticket // by hash
}

type ticket struct {
	credential string
	expires    time.Time
}

func (t *tickets) make(who Identity, now time.Time) (Ticket, error) {
	if who.credential == "" {
		return Ticket{}, wire.Errorf(wire.Invalid, "a ticket stands for a key or a session, and %s has neither", who)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[string]ticket{}
	}
	for h, old := range t.open {
		if !now.Before(old.expires) {
			delete(t.open, h)
		}
	}
	if len(t.open) >= maxTickets {
		return Ticket{}, tooMany(ticketTime, "too many tickets wait to be used")
	}
	token, expires := ticketPrefix+secret(32), now.Add(ticketTime)
	t.open[tokenHash(token)] = ticket{who.credential, expires}
	return Ticket{token, expires}, nil
}

// use exchanges a ticket, once, for the credential that it stands for.
func (t *tickets) use(token string, now time.Time) (credential string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := tokenHash(token)
	found, ok := t.open[h]
	delete(t.open, h)
	return found.credential, ok && now.Before(found.expires)
}
