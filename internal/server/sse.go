package server

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/api"
)

// heartbeat is how often a stream of events says something, so that proxies and
// readers know that it lives.
const heartbeat = 15 * time.Second

// events is an answer of server-sent events. Its methods may be called by many
// goroutines at once.
type events struct {
	w    http.ResponseWriter
	flow *http.ResponseController
	mu   sync.Mutex
	quit chan struct{}
	wg   sync.WaitGroup
}

// newEvents begins the answer. The caller closes it before it returns.
func newEvents(w http.ResponseWriter) *events {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	e := &events{w: w, flow: http.NewResponseController(w), quit: make(chan struct{})}
	_ = e.flow.Flush()
	e.wg.Go(e.beat)
	return e
}

func (e *events) beat() {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-e.quit:
			return
		case <-tick.C:
			_ = e.put([]byte(": still here\n\n"))
		}
	}
}

// send sends an event; id may be empty. It fails when the reader has left.
func (e *events) send(id, kind string, data any) error {
	return e.sendText(id, kind, api.JSON(data))
}

func (e *events) sendText(id, kind string, data []byte) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	if kind != "" {
		fmt.Fprintf(&b, "event: %s\n", kind)
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		b.WriteString("data: ")
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return e.put(b.Bytes())
}

func (e *events) put(b []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.w.Write(b); err != nil {
		return err
	}
	return e.flow.Flush()
}

// close ends the heartbeat; the answer ends when the handler returns.
func (e *events) close() {
	close(e.quit)
	e.wg.Wait()
}

// wantsEvents reports whether a request asks for an answer of events.
func wantsEvents(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			if kind, _, err := mime.ParseMediaType(part); err == nil && kind == "text/event-stream" {
				return true
			}
		}
	}
	return false
}
