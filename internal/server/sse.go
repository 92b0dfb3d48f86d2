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

// live is an answer that comes as things happen. Its methods may be called by
// many goroutines at once.
type live struct {
	w    http.ResponseWriter
	flow *http.ResponseController
	mu   sync.Mutex
	quit chan struct{}
	wg   sync.WaitGroup
}

// newLive begins the answer, which goes out with what is put first. When there
// is nothing to say it says still. The caller closes it before it returns.
func newLive(w http.ResponseWriter, kind, still string) *live {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	l := &live{w: w, flow: http.NewResponseController(w), quit: make(chan struct{})}
	l.wg.Go(func() { l.beat(still) })
	return l
}

func (l *live) beat(still string) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
			_ = l.put([]byte(still))
		}
	}
}

func (l *live) put(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.flow.Flush()
}

// close ends the heartbeat; the answer ends when the handler returns.
func (l *live) close() {
	close(l.quit)
	l.wg.Wait()
}

// events is an answer of server-sent events.
type events struct{ *live }

// newEvents begins the answer. The caller closes it before it returns.
func newEvents(w http.ResponseWriter) *events {
	e := &events{newLive(w, "text/event-stream; charset=utf-8", ": still here\n\n")}
	_ = e.flow.Flush()
	return e
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

// wantsEvents reports whether a request asks for an answer of events.
func wantsEvents(r *http.Request) bool { return wants(r, "text/event-stream") }

func wants(r *http.Request, media string) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			if kind, _, err := mime.ParseMediaType(part); err == nil && kind == media {
				return true
			}
		}
	}
	return false
}
