package auth

import (
	"net/http"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	// GuestCookie is the cookie on a guest's own host name: it opens that sandbox's
	// servers and nothing of ours, so that a page of one can't do more than that.
	GuestCookie = "bandsox_guest"

	visitPrefix = "bsx_g_"
	visitTime   = 12 * time.Hour
	maxVisits   = 4096
)

// visits are the browsers that were let in to a guest's servers, with what each
// was let in for: that is looked at again each time.
type visits struct {
	mu   sync.Mutex
	open map[string]visit // by the hash of the cookie
}

type visit struct {
	ticket
	sandbox string
}

func (v *visits) add(to visit, now time.Time) (token string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open == nil {
		v.open = map[string]visit{}
	}
	if len(v.open) >= maxVisits {
		for h, old := range v.open {
			if !now.Before(old.expires) {
				delete(v.open, h)
			}
		}
	}
	if len(v.open) >= maxVisits {
		return "", tooMany(time.Minute, "too many browsers visit guests")
	}
	token = visitPrefix + secret(32)
	v.open[tokenHash(token)] = to
	return token, nil
}

func (v *visits) find(token, sandbox string, now time.Time) (visit, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found, ok := v.open[tokenHash(token)]
	return found, ok && found.sandbox == sandbox && now.Before(found.expires)
}

// Admit exchanges a ticket for a cookie on the host name that r was sent to,
// which opens one sandbox's servers for as long as the ticket's owner may.
func (g *Guard) Admit(w http.ResponseWriter, r *http.Request, ticketText, sandbox string) error {
	now := g.now()
	credential, ok := g.tickets.use(ticketText, now)
	if !ok {
		return unauthorized("this ticket is too old, or was used before: POST /api/auth/ticket makes another")
	}
	if err := Allow(g.holder(credential), NeedUse, sandbox); err != nil {
		return err
	}
	token, err := g.visits.add(visit{ticket{credential, now.Add(visitTime)}, sandbox}, now)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{
		Name: GuestCookie, Value: token, Path: "/", MaxAge: int(visitTime / time.Second),
		HttpOnly: true, Secure: g.SecureCookies(r), SameSite: http.SameSiteLaxMode,
	})
	return nil
}

// holder is whoever has this credential, if it is still good.
func (g *Guard) holder(credential string) Identity {
	snap, err := g.store.load()
	if err != nil || snap == nil {
		return Identity{}
	}
	who, _ := g.byToken(snap, credential)
	return who
}

// Visitor is the caller by the cookie that Admit gave, who may use this sandbox
// and nothing else. It fails for one who isn't known, or does it too often.
func (g *Guard) Visitor(r *http.Request, sandbox string) (Identity, error) {
	for i, c := range r.CookiesNamed(GuestCookie) {
		if i == 8 {
			break
		}
		v, ok := g.visits.find(c.Value, sandbox, g.now())
		if !ok {
			continue
		}
		who := g.holder(v.credential)
		if Allow(who, NeedUse, sandbox) != nil {
			continue
		}
		who.Scopes = []Scope{OnSandbox(sandbox)}
		return who, g.rates.allow(who.ID, who.Limits.RatePerMinute, g.now())
	}
	return Identity{}, wire.Errorf(wire.Unauthorized, "Unauthorized").
		WithHint("open it from the sandbox's page, or send Authorization: Bearer KEY")
}
