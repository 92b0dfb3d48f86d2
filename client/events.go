package client

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"iter"
	"net/http"

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

var acceptEvents = http.Header{"Accept": {"text/event-stream"}}
