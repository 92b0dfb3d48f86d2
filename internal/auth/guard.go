package auth

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Options are how a server is guarded. The zero value is the strictest.
type Options struct {
	Hosts    []string // names the server is known by, beside the machine's own addresses; *.NAME is what ends so
	Origins  []string // other sites whose pages may call the API, with a key
	Insecure bool     // without keys, let other machines in too
	Secure   bool     // a proxy in front speaks TLS

	// Guest reports whether a host name is that of a server in a guest: it is no
	// foreign name of ours. Nothing of ours is answered by it.
	Guest func(host string) bool

	// Local reports whether a request came by a way that only those who may
	// read the auth file have: the server's own socket. They need no key.
	Local func(*http.Request) bool

	// Audit is told of everything that changes something, of every WebSocket
	// and of every refusal, when its result is known. It must not block.
	Audit func(Event)

	// WriteError answers a request that the guard refuses; the default is JSON
	// with detail, code and hint. It may use Status and RetryAfter.
	WriteError func(http.ResponseWriter, *http.Request, error)
}

// Guard stands in front of a server's routes.
type Guard struct {
	store   *Store
	o       Options
	origins *http.CrossOriginProtection
	now     func() time.Time

	logins  loginLimit
	rates   keyLimit
	tickets tickets
	visits  visits

	mu      sync.Mutex
	used    map[string]time.Time // of keys, not yet written down
	flushed time.Time
	writing sync.WaitGroup
	busy    bool
}

// NewGuard makes a guard of the store. It fails where the auth file is there
// and no good, so that a server doesn't start in front of a broken lock.
func NewGuard(s *Store, o Options) (*Guard, error) {
	if _, err := s.Enabled(); err != nil {
		return nil, err
	}
	g := &Guard{store: s, o: o, origins: http.NewCrossOriginProtection(), now: s.now, used: map[string]time.Time{}}
	for _, origin := range o.Origins {
		if err := g.origins.AddTrustedOrigin(origin); err != nil {
			return nil, wire.Errorf(wire.Invalid, "%w", err).WithHint("an origin is SCHEME://HOST[:PORT], as https://example.com")
		}
	}
	if g.o.WriteError == nil {
		g.o.WriteError = writeError
	}
	return g, nil
}

// Authenticate finds out who makes a request, for From, and passes it on: a
// caller who isn't known too, for Require to stop. It refuses what no route
// wants: requests by a foreign name of ours, or that another site's page makes
// in a browser's name, or from elsewhere while there are no keys.
func (g *Guard) Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.cors(w, r) {
			return
		}
		who, hint, err := g.identify(r)
		ctx := With(r.Context(), who)
		if hint != "" {
			ctx = context.WithValue(ctx, hintKey, hint)
		}
		r = r.WithContext(ctx)
		if err == nil {
			err = g.rates.allow(who.ID, who.Limits.RatePerMinute, g.now())
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		if g.o.Audit == nil || safe(r) {
			next.ServeHTTP(w, r)
			return
		}
		rec := &recorder{ResponseWriter: w, report: func(status int) { g.audit(r, status, "") }}
		status := http.StatusInternalServerError // unless next returns
		defer func() { rec.known(status) }()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(ctx, recorderKey, rec)))
		status = http.StatusOK
	})
}

// identify returns the caller, and for one who isn't known why not, if it may
// help them.
func (g *Guard) identify(r *http.Request) (who Identity, hint string, err error) {
	if g.o.Local != nil && g.o.Local(r) {
		return administrator(Local), "", nil
	}
	snap, err := g.store.load()
	if err != nil {
		return Identity{}, "", err
	}
	if err := g.checkHost(r, snap != nil); err != nil {
		return Identity{}, "", err
	}
	if snap == nil {
		who = administrator(Anonymous)
		if !g.o.Insecure && !FromHere(r) {
			return Identity{}, "", wire.Errorf(wire.Denied, "there are no keys, so only this machine may call").
				WithHint("on the server: bandsox auth init; or serve with --insecure")
		}
		return who, "", g.checkOrigin(r)
	}
	p := credentials(r)
	if p.bearer != "" {
		if who, hint = g.byKey(snap, p.bearer); who.Known() {
			return who, "", nil
		}
	}
	for _, token := range p.tokens {
		if who, hint = g.byToken(snap, token); who.Known() {
			return who, "", nil
		}
	}
	for _, token := range p.cookies {
		if snap.session(token, g.now()) {
			who = administrator(BySession)
			who.credential = token
			return who, "", g.checkOrigin(r)
		}
	}
	return Identity{}, hint, nil
}

func (g *Guard) byKey(snap *snapshot, presented string) (Identity, string) {
	k := snap.key(presented)
	switch {
	case k == nil:
		return Identity{}, ""
	case k.expired(g.now()):
		return Identity{}, "this key expired on " + k.ExpiresAt.Format(time.RFC3339)
	}
	g.noteUse(k)
	return Identity{Kind: ByKey, ID: k.ID, Name: k.Name, Scopes: k.Scopes, Limits: k.Limits, credential: presented}, ""
}

func (g *Guard) byToken(snap *snapshot, token string) (Identity, string) {
	if cred, ok := g.tickets.use(token, g.now()); ok {
		token = cred
	}
	if snap.session(token, g.now()) {
		who := administrator(BySession)
		who.credential = token
		return who, ""
	}
	return g.byKey(snap, token)
}

// Require lets those through who have what a route needs. sandbox, if the route
// is about one, returns its id, or "" if there is none of that name.
func (g *Guard) Require(need Need, sandbox func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := ""
		if sandbox != nil {
			id = sandbox(r)
		}
		if err := g.Allow(r.Context(), need, id); err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Allow is Allow for the caller of the request with this context, with the
// reason why a credential that was shown wasn't taken.
func (g *Guard) Allow(ctx context.Context, need Need, sandbox string) error {
	err := Allow(From(ctx), need, sandbox)
	if hint, ok := ctx.Value(hintKey).(string); ok && wire.CodeOf(err) == wire.Unauthorized {
		return unauthorized(hint)
	}
	return err
}

// Login exchanges the password for a session, as often as the caller's address
// may try.
func (g *Guard) Login(r *http.Request, password string) (Session, error) {
	if on, err := g.store.Enabled(); err != nil {
		return Session{}, err
	} else if !on {
		return Session{}, errOff()
	}
	if err := g.logins.allow(address(r), g.now()); err != nil {
		return Session{}, err
	}
	return g.store.Login(r.Context(), password)
}

// Logout ends the sessions whose tokens the request shows in its cookie.
func (g *Guard) Logout(r *http.Request) error {
	snap, err := g.store.load()
	if err != nil || snap == nil {
		return err
	}
	for _, token := range credentials(r).cookies {
		if !snap.session(token, g.now()) {
			continue
		}
		if err := g.store.EndSession(r.Context(), token); err != nil {
			return err
		}
	}
	return nil
}

// Ticket makes the caller of the request with this context a ticket.
func (g *Guard) Ticket(ctx context.Context) (Ticket, error) {
	return g.tickets.make(From(ctx), g.now())
}

// SecureCookies reports whether the answer to r goes over TLS.
func (g *Guard) SecureCookies(r *http.Request) bool { return g.o.Secure || r.TLS != nil }

const flushEvery = time.Minute

// noteUse remembers when a key was used, and writes that down now and then: a
// write for each request would be most of what a request costs.
func (g *Guard) noteUse(k *storedKey) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used[k.ID] = now
	if g.busy || now.Sub(g.flushed) < flushEvery {
		return
	}
	g.busy, g.flushed = true, now
	g.writing.Go(func() {
		// Nothing is lost by a failure but the time; the next write has it again.
		_ = g.flush(context.Background())
		g.mu.Lock()
		g.busy = false
		g.mu.Unlock()
	})
}

func (g *Guard) flush(ctx context.Context) error {
	g.mu.Lock()
	used := g.used
	g.used = map[string]time.Time{}
	g.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return g.store.touch(ctx, used)
}

// Close writes down what is still to be, when no requests come any more.
func (g *Guard) Close() error {
	g.writing.Wait()
	return g.flush(context.Background())
}
