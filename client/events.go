package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/wire"
)

// maxEvent is the longest line of a stream of events that is taken.
const maxEvent = 4 << 20

// message is one server-sent event.
type message struct {
	id, kind string
	data     []byte
}

// messages reads a stream of events until its end, which is an error unless
// the reader was done before.
func messages(ctx context.Context, r io.Reader) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 4<<10), maxEvent)
		var m message
		for lines.Scan() {
			line := lines.Bytes()
			if len(line) == 0 {
				if m.kind == "" && m.data == nil {
					continue
				}
				if !yield(m, nil) {
					return
				}
				m = message{}
				continue
			}
			field, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(field) {
			case "id":
				m.id = string(value)
			case "event":
				m.kind = string(value)
			case "data":
				if m.data != nil {
					m.data = append(m.data, '\n')
				}
				m.data = append(m.data, value...)
				if m.data == nil {
					m.data = []byte{}
				}
			}
		}
		err := lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(message{}, ctxOr(ctx, wire.Errorf(wire.Unavailable, "the server's stream broke off: %w", err)))
	}
}

// Events yields the events after the one with this id, in order, and goes on
// with new ones until ctx ends, whose error is the last thing it yields. 0
// begins with the oldest kept, bandsox.EventsFromNow with the next. A
// connection that breaks is made again, and nothing is lost by it.
func (c *Client) Events(ctx context.Context, after int64) iter.Seq2[bandsox.Event, error] {
	return func(yield func(bandsox.Event, error) bool) {
		for tries := 0; ; tries++ {
			heard, more, err := c.readEvents(ctx, &after, true, yield)
			if !more {
				return
			}
			if heard {
				tries = 0
			}
			switch {
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case !errors.Is(err, bandsox.ErrUnavailable) || tries == eventTries:
			default:
				select {
				case <-time.After(eventRetry):
				case <-ctx.Done():
				}
				continue
			}
			yield(bandsox.Event{}, failure("events", "", err))
			return
		}
	}
}

// How often, and how soon, a broken stream of events is begun again.
const (
	eventTries = 10
	eventRetry = 500 * time.Millisecond
)

// PastEvents is Events that ends with the newest one there is.
func (c *Client) PastEvents(ctx context.Context, after int64) iter.Seq2[bandsox.Event, error] {
	return func(yield func(bandsox.Event, error) bool) {
		if _, more, err := c.readEvents(ctx, &after, false, yield); more && err != nil {
			yield(bandsox.Event{}, failure("events", "", err))
		}
	}
}

// readEvents yields the events of one connection, and counts after on. heard
// says that there were some, more that their reader still reads.
func (c *Client) readEvents(ctx context.Context, after *int64, follow bool, yield func(bandsox.Event, error) bool) (heard, more bool, err error) {
	q := url.Values{"after": {strconv.FormatInt(*after, 10)}, "follow": {strconv.FormatBool(follow)}}
	resp, err := c.send(ctx, "events", "", http.MethodGet, "/api/events", q, nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return false, true, err
	}
	defer resp.Body.Close()
	for m, err := range messages(ctx, resp.Body) {
		switch {
		case err != nil:
			return heard, true, err
		case m.kind == "error":
			return heard, true, eventError("events", "", m)
		case m.kind == "end":
			return heard, true, nil
		case m.kind == "begin":
			if *after, err = strconv.ParseInt(m.id, 10, 64); err != nil {
				return heard, true, err
			}
			continue
		}
		var e bandsox.Event
		if err := json.Unmarshal(m.data, &e); err != nil {
			return heard, true, err
		}
		*after, heard = e.ID, true
		if !yield(e, nil) {
			return heard, false, nil
		}
	}
	return heard, true, io.ErrUnexpectedEOF
}
