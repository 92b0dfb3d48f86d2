package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

var authRoutes = []route{
	{method: "POST", path: "/api/auth/login", need: auth.NeedNone, tag: tagKeys, summary: "Exchange the password for a session",
		about: "The session's token is in the cookie, and in the body for WebSockets. An address may try ten times a minute.", do: call((*Server).login)},
	{method: "POST", path: "/api/auth/logout", need: auth.NeedNone, tag: tagKeys, summary: "End the cookie's session", do: call((*Server).logout)},
	{method: "GET", path: "/api/auth/check", need: auth.NeedNone, tag: tagKeys, summary: "Whether this request's caller is known", do: call((*Server).checkAuth)},
	{method: "GET", path: "/api/auth/whoami", need: auth.NeedAny, tag: tagKeys, summary: "Who makes this request, and what they may do", do: call((*Server).whoami)},
	{method: "POST", path: "/api/auth/ticket", need: auth.NeedAny, tag: tagKeys, summary: "Make a ticket that opens one WebSocket, soon",
		about: "For those who can set no header: the URL's token is then worth nothing once it was used.", do: call((*Server).ticket)},
	{method: "GET", path: "/api/auth/keys", need: auth.NeedAdmin, tag: tagKeys, summary: "List the API keys, not the keys themselves", do: call((*Server).listKeys)},
	{method: "POST", path: "/api/auth/keys", need: auth.NeedAdmin, tag: tagKeys, summary: "Make an API key and show it once", do: call((*Server).createKey)},
	{method: "DELETE", path: "/api/auth/keys/{key}", need: auth.NeedAdmin, tag: tagKeys, summary: "Take a key's rights away", do: call((*Server).revokeKey)},
	{method: "GET", path: "/api/audit", need: auth.NeedAdmin, tag: tagKeys, summary: "Who changed what, and who was refused, the newest first", do: call((*Server).listAudit)},
}

// Exchange gives a typed handler the request and the answer behind its values.
type Exchange struct {
	r *http.Request
	w http.ResponseWriter
}

// Resolve is called before the handler.
func (e *Exchange) Resolve(c huma.Context) []error {
	e.r, e.w = humago.Unwrap(c)
	return nil
}

func (s *Server) login(_ context.Context, in *struct {
	Exchange
	Body api.Login
}) (*answer[api.LoggedIn], error) {
	session, err := s.guard.Login(in.r, in.Body.Password)
	if err != nil {
		return nil, err
	}
	auth.SetCookie(in.w, session, s.guard.SecureCookies(in.r))
	return answered(api.LoggedIn{Status: "ok", Token: session.Token}), nil
}

func (s *Server) logout(_ context.Context, in *struct{ Exchange }) (*answer[api.Status], error) {
	if err := s.guard.Logout(in.r); err != nil {
		return nil, err
	}
	auth.ClearCookie(in.w, s.guard.SecureCookies(in.r))
	return status("ok"), nil
}

func (s *Server) checkAuth(ctx context.Context, _ *struct{}) (*answer[api.Authenticated], error) {
	return answered(api.Authenticated{Authenticated: auth.From(ctx).Known()}), nil
}

func (s *Server) whoami(ctx context.Context, _ *struct{}) (*answer[api.Whoami], error) {
	who := auth.From(ctx)
	used, err := s.quotas.used(ctx, s.m, who.ID)
	return answered(api.Whoami{Identity: who, Usage: api.Usage(used)}), err
}

func (s *Server) ticket(ctx context.Context, _ *struct{}) (*answer[auth.Ticket], error) {
	t, err := s.guard.Ticket(ctx)
	return answered(t), err
}

func (s *Server) listKeys(context.Context, *struct{}) (*answer[[]auth.Key], error) {
	keys, err := s.keys.Keys()
	return answered(keys), err
}

func (s *Server) createKey(ctx context.Context, in *struct{ Body api.CreateKey }) (*answer[auth.NewKey], error) {
	if _, err := s.keys.Keys(); err != nil { // before looking for its sandboxes in vain
		return nil, err
	}
	o := auth.KeyOptions{Name: in.Body.Name, Limits: in.Body.Limits}
	if in.Body.ExpiresAt != nil {
		o.ExpiresAt = *in.Body.ExpiresAt
	}
	for _, scope := range in.Body.Scopes {
		// A key's scope holds for the id: a name may come to be another's.
		if ref, ok := strings.CutPrefix(string(scope), string(auth.OnSandbox(""))); ok {
			sb, err := s.m.Get(ctx, ref)
			switch {
			case errors.Is(err, bandsox.ErrNotFound): // a fault of the body: the path is right
				return nil, invalid("scope %q: there is no such sandbox", scope).WithHint("bandsox ps")
			case err != nil:
				return nil, err
			}
			scope = auth.OnSandbox(sb.ID())
		}
		o.Scopes = append(o.Scopes, scope)
	}
	key, err := s.keys.CreateKey(ctx, o)
	return answered(key), err
}

func (s *Server) revokeKey(ctx context.Context, in *struct {
	Key string `path:"key" doc:"The key's id"`
}) (*answer[api.Status], error) {
	return status("revoked"), s.keys.RevokeKey(ctx, in.Key)
}
