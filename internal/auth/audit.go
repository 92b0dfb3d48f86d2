package auth

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Event is one line of the audit log: who did what, when, from where, and what
// came of it.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   Kind      `json:"kind,omitempty"` // none: a caller who isn't known
	KeyID  string    `json:"key_id,omitempty"`
	Name   string    `json:"name,omitempty"`
	Method string    `json:"method"`
	Path   string    `json:"path"` // without the query, which may hold a token
	From   string    `json:"from,omitempty"`
	Status int       `json:"status"`
	Reason string    `json:"reason,omitempty"` // of a refusal
}

func (g *Guard) audit(r *http.Request, status int, reason string) {
	if g.o.Audit == nil {
		return
	}
	who := From(r.Context())
	e := Event{Time: g.now(), Kind: who.Kind, KeyID: who.ID, Name: who.Name, Method: r.Method,
		Path: r.URL.Path, Status: status, Reason: reason}
	if a := address(r); a.IsValid() {
		e.From = a.String()
	}
	g.o.Audit(e)
}

// refuse answers a request that goes no further.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if rec, ok := r.Context().Value(recorderKey).(*recorder); ok {
		rec.done = true // the refusal is the event
	}
	g.audit(r, Status(err), err.Error())
	if after := RetryAfter(err); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
	}
	if Status(err) == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="bandsox"`)
	}
	g.o.WriteError(w, r, err)
}

// Status is the HTTP status of an error of this package: what it has too much of
// is requests, or sandboxes, and waiting or deleting helps.
func Status(err error) int {
	code := wire.CodeOf(err)
	if code == wire.Exhausted {
		return http.StatusTooManyRequests
	}
	return code.Status()
}

func writeError(w http.ResponseWriter, _ *http.Request, err error) {
	body := struct {
		Detail string    `json:"detail"`
		Code   wire.Code `json:"code"`
		Hint   string    `json:"hint,omitempty"`
	}{Detail: err.Error(), Code: wire.CodeOf(err)}
	var e *wire.Error
	if errors.As(err, &e) {
		body.Hint = e.Hint
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(Status(err))
	_ = json.NewEncoder(w).Encode(body)
}

// recorder reports the status of an answer as soon as it is known: a terminal's
// when it is opened, not hours later when it is left.
type recorder struct {
	http.ResponseWriter
	report func(status int)
	done   bool
}

func (r *recorder) known(status int) {
	if !r.done {
		r.done = true
		r.report(status)
	}
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.known(status)
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.known(http.StatusOK)
	return r.ResponseWriter.Write(b)
}

func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	r.known(http.StatusOK)
	return io.Copy(r.ResponseWriter, src)
}

func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil {
		r.known(http.StatusSwitchingProtocols)
	}
	return c, rw, err
}

func (r *recorder) Flush() { _ = r.FlushError() }

func (r *recorder) FlushError() error {
	r.known(http.StatusOK)
	return http.NewResponseController(r.ResponseWriter).Flush()
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
