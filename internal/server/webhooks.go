package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

var webhookRoutes = []route{
	{method: "GET", path: "/api/webhooks", need: auth.NeedAdmin, tag: tagEvents, summary: "List the URLs that events are sent to", do: call((*Server).listWebhooks)},
	{method: "POST", path: "/api/webhooks", need: auth.NeedAdmin, tag: tagEvents, summary: "Send events to a URL",
		about: "Each is POSTed as JSON, in order, with the headers Bandsox-Event (its type), Bandsox-Delivery (one for each event: a receiver may see it twice) and " +
			"Bandsox-Signature. An answer of 2xx takes it; anything else is tried again, ever more slowly, for a day.",
		do: call((*Server).createWebhook)},
	{method: "DELETE", path: "/api/webhooks/{hook}", need: auth.NeedAdmin, tag: tagEvents, summary: "Send no more events to a URL", do: call((*Server).deleteWebhook)},
}

const maxWebhooks = 64

// webhooks are the URLs that events are sent to, and how far each has been told:
// what happens while the server is down is sent when it is back.
type webhooks struct {
	m    *bandsox.Manager
	path string // of the file; "": they are forgotten with the server
	http *http.Client

	mu    sync.Mutex
	list  []*webhook
	ctx   context.Context
	wg    sync.WaitGroup
	stale bool // the file has an older Delivered than memory
}

type webhook struct {
	api.NewWebhook
	stop context.CancelFunc
}

// openWebhooks reads the file and begins to send. ctx ends it.
func openWebhooks(ctx context.Context, m *bandsox.Manager, path string) (*webhooks, error) {
	h := &webhooks{m: m, path: path, ctx: ctx, http: &http.Client{
		Timeout:       deliveryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if path == "" {
		return h, nil
	}
	var kept []api.NewWebhook
	if err := store.ReadJSON(path, &kept); err != nil && wire.CodeOf(err) != wire.NotFound {
		return nil, err
	}
	for _, k := range kept {
		h.begin(&webhook{NewWebhook: k})
	}
	return h, nil
}

// begin starts to send to one. mu is held, or nobody else knows h yet.
func (h *webhooks) begin(w *webhook) {
	ctx, stop := context.WithCancel(h.ctx)
	w.stop = stop
	h.list = append(h.list, w)
	h.wg.Go(func() { h.deliver(ctx, w) })
}

// save writes all of it down. mu is held.
func (h *webhooks) save() error {
	h.stale = false
	if h.path == "" {
		return nil
	}
	kept := []api.NewWebhook{}
	for _, w := range h.list {
		kept = append(kept, w.NewWebhook)
	}
	b, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return store.Replace(h.path, append(b, '\n'))
}

// close waits for what is being sent; its ctx has ended.
func (h *webhooks) close() error {
	h.wg.Wait()
	h.http.CloseIdleConnections()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stale {
		return nil
	}
	return h.save()
}

func (s *Server) listWebhooks(context.Context, *struct{}) (*answer[[]api.Webhook], error) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	list := []api.Webhook{}
	for _, w := range s.hooks.list {
		list = append(list, w.Webhook)
	}
	return answered(list), nil
}

func (s *Server) createWebhook(ctx context.Context, in *struct{ Body api.CreateWebhook }) (*answer[api.NewWebhook], error) {
	u, err := url.Parse(in.Body.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, invalid("url %q: must be http or https", in.Body.URL)
	}
	for _, t := range in.Body.Types {
		if !slices.Contains(bandsox.EventTypes(), t) {
			return nil, invalid("types: there are no events of type %q", t).WithHint("there are %s", strings.Join(bandsox.EventTypes(), ", "))
		}
	}
	last, err := s.m.LastEvent(ctx)
	if err != nil {
		return nil, err
	}
	from := last
	if in.Body.After != nil {
		if from = *in.Body.After; from < 0 || from > last {
			return nil, invalid("after %d: the newest event is %d", from, last)
		}
	}
	w := &webhook{NewWebhook: api.NewWebhook{Secret: in.Body.Secret, Webhook: api.Webhook{ID: "wh_" + store.NewID(), URL: in.Body.URL,
		Types: in.Body.Types, Sandbox: in.Body.Sandbox, CreatedAt: time.Now().UTC(), Delivered: from}}}
	if w.Secret == "" {
		var b [32]byte
		_, _ = rand.Read(b[:]) // which never fails
		w.Secret = "whsec_" + hex.EncodeToString(b[:])
	}
	made := w.NewWebhook
	h := s.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) >= maxWebhooks {
		return nil, wire.Errorf(wire.Exhausted, "there are %d webhooks already", maxWebhooks)
	}
	h.begin(w)
	if err := h.save(); err != nil {
		w.stop()
		h.list = h.list[:len(h.list)-1]
		return nil, err
	}
	return answered(made), nil
}

func (s *Server) deleteWebhook(_ context.Context, in *struct {
	Hook string `path:"hook" doc:"The webhook's id"`
}) (*answer[api.Status], error) {
	h := s.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.list, func(w *webhook) bool { return w.ID == in.Hook })
	if i < 0 {
		return nil, wire.Errorf(wire.NotFound, "there is no webhook %q", in.Hook)
	}
	h.list[i].stop()
	h.list = slices.Delete(h.list, i, i+1)
	return status("deleted"), h.save()
}

// wants reports whether the webhook is for the event.
func (w *webhook) wants(e bandsox.Event) bool {
	return (len(w.Types) == 0 || slices.Contains(w.Types, e.Type)) && (w.Sandbox == "" || w.Sandbox == e.Sandbox)
}

// deliver sends events until ctx ends.
func (h *webhooks) deliver(ctx context.Context, w *webhook) {
	for ctx.Err() == nil {
		h.mu.Lock()
		after := w.Delivered
		h.mu.Unlock()
		for e, err := range h.m.Events(ctx, after) {
			if errors.Is(err, bandsox.ErrInvalid) {
				// The events began anew: their file was lost. What comes is sent.
				after, err = h.m.LastEvent(ctx)
				if err == nil {
					h.told(w, after, false)
				}
				break
			}
			if err != nil {
				break
			}
			dropped := false
			if w.wants(e) {
				if dropped, err = h.send(ctx, w, e); err != nil {
					return
				}
			}
			h.told(w, e.ID, dropped)
		}
		pause(ctx, time.Second)
	}
}

// told notes how far a webhook has been told. The file follows now and then:
// after a crash a receiver sees some events again.
func (h *webhooks) told(w *webhook, id int64, dropped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Delivered, w.Failures, w.Error = id, 0, ""
	if dropped {
		w.Dropped++
	}
	if h.stale {
		return
	}
	h.stale = true
	h.wg.Go(func() {
		pause(h.ctx, time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.stale {
			_ = h.save() // the next has it again
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
