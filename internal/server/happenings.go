package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
)

var eventRoutes = []route{
	{method: "GET", path: "/api/events", need: auth.NeedAny, tag: tagEvents, summary: "What happens to sandboxes, as it happens",
		about: "An answer of events, whose ids grow by one from each event of the server to the next; a filter leaves some out. After a break, " +
			"Last-Event-ID (or after) goes on where the reader was. Where events are missing because they are no longer kept (the last 10,000 are), one of type gap takes their place. The first event is begin, whose id is where the stream begins.",
		do: stream((*Server).streamEvents, eventsDoc)},
}

// pick is which events a reader wants.
type pick struct {
	after   int64
	follow  bool
	sandbox string
	types   []string
}

func (s *Server) readPick(r *http.Request) (p pick, err error) {
	q := r.URL.Query()
	p = pick{after: bandsox.EventsFromNow, follow: true}
	after := q.Get("after")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		after = last
	}
	if after != "" {
		if p.after, err = strconv.ParseInt(after, 10, 64); err != nil || p.after < bandsox.EventsFromNow {
			return p, invalid("after %q: must be the id of an event, 0 for all that are kept, or -1 for those to come", after)
		}
	}
	if follow := q.Get("follow"); follow != "" {
		if p.follow, err = strconv.ParseBool(follow); err != nil {
			return p, invalid("follow %q: must be true or false", follow)
		}
	}
	if types := q.Get("type"); types != "" {
		p.types = strings.Split(types, ",")
	}
	if p.sandbox = q.Get("sandbox"); p.sandbox != "" {
		if sb, err := s.m.Get(r.Context(), p.sandbox); err == nil {
			p.sandbox = sb.ID() // one that is deleted has events still, by its id
		}
	}
	return p, nil
}

// takes reports whether the reader wants, and may see, the event. A gap is for
// everyone: who knows what was in it.
func (p pick) takes(who auth.Identity, e bandsox.Event) bool {
	if e.Type == bandsox.EventGap {
		return true
	}
	return who.Sees(e.Sandbox) && (p.sandbox == "" || p.sandbox == e.Sandbox) && (len(p.types) == 0 || slices.Contains(p.types, e.Type))
}

func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request) error {
	p, err := s.readPick(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	if p.after == bandsox.EventsFromNow {
		if p.after, err = s.m.LastEvent(ctx); err != nil {
			return err
		}
	}
	list := s.m.Events(ctx, p.after)
	if !p.follow {
		list = s.m.PastEvents(ctx, p.after)
	}
	// An id that was never given is refused before the answer begins.
	if p.after > 0 {
		for _, err := range s.m.PastEvents(ctx, p.after) {
			if errors.Is(err, bandsox.ErrInvalid) {
				return err
			}
			break
		}
	}
	who := auth.From(ctx)
	stream := newEvents(w)
	defer stream.close()
	// Who hears nothing before the connection breaks knows all the same where to
	// go on.
	if err := stream.send(strconv.FormatInt(p.after, 10), "begin", struct{}{}); err != nil {
		return nil
	}
	for e, err := range list {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return stream.send("", "error", s.asStatus(err, nil))
		}
		if !p.takes(who, e) {
			continue
		}
		if err := stream.send(strconv.FormatInt(e.ID, 10), e.Type, e); err != nil {
			return nil // the reader has left
		}
	}
	return stream.send("", "end", struct{}{})
}

func eventsDoc(op *huma.Operation, schemas huma.Registry) {
	op.Parameters = append(op.Parameters,
		param("after", anInt, false, "Begin after the event with this id; 0: with the oldest kept; -1: with the next. Not given: -1"),
		param("follow", aBool, false, "false: end with the newest there is"),
		param("sandbox", aString, false, "Only those of this sandbox: its id or name"),
		param("type", aString, false, "Only those of these types, separated by commas"),
		&huma.Param{Name: "Last-Event-ID", In: "header", Schema: anInt, Description: "What after is, in a browser's words; it goes first"},
	)
	op.Responses = eventStream(schemas, "Each event's data is an object of this kind; it is named by its type", bandsox.Event{})
}
