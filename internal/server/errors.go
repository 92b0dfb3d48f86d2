package server

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

// asStatus is err as it is answered on a route, which may be nil.
func (s *Server) asStatus(err error, rt *route) *api.Error {
	var done *api.Error
	if errors.As(err, &done) {
		return done
	}
	e := &api.Error{Detail: api.Detail{Text: err.Error()}, Code: wire.CodeOf(err)}
	var of *bandsox.Error
	var low *wire.Error
	switch {
	case errors.As(err, &of):
		e.Code, e.Hint, e.Op, e.ID = of.Code, of.Hint, of.Op, of.ID
		e.Detail.Text = of.Err.Error()
	case errors.As(err, &low):
		e.Hint = low.Hint
	case isTooLarge(err):
		e.Code, e.Status = wire.Invalid, http.StatusRequestEntityTooLarge
	}
	if e.Status == 0 {
		e.Status = e.Code.Status()
	}
	var limit *tooMuch
	switch {
	case errors.As(err, &limit):
		e.Status = http.StatusRequestEntityTooLarge
	case of == nil && e.Code == wire.Exhausted: // requests, or a key's quota
		e.Status = auth.Status(err)
	}
	if after := auth.RetryAfter(err); after > 0 {
		e.Header = http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(after.Seconds())))}}
	}
	if rt != nil {
		compatible(e, rt)
	}
	if e.Code == wire.Internal {
		s.log.Error("request failed", "op", e.Op, "id", e.ID, "err", err)
	}
	return e
}

// tooMuch is the error of a body that is larger than what is taken.
type tooMuch struct{ err *wire.Error }

func (t *tooMuch) Error() string { return t.err.Error() }
func (t *tooMuch) Unwrap() error { return t.err }

func isTooLarge(err error) bool {
	var max *http.MaxBytesError
	return errors.As(err, &max)
}

// compatible makes the answer what the reference's clients look for.
func compatible(e *api.Error, rt *route) {
	if rt.notRunning != 0 && e.Code == wire.Conflict {
		e.Status = rt.notRunning
		if e.Hint == "" {
			e.Hint = e.Detail.Text
		}
	}
	if strings.HasPrefix(rt.path, "/api/vms/{id}") && e.Code == wire.NotFound && e.Op == "get" {
		e.Message, e.Detail = e.Detail.Text, api.Detail{Text: "VM not found"}
	}
	if strings.HasPrefix(rt.path, "/api/snapshots/{sid}") && e.Code == wire.NotFound && e.Op == "snapshot" {
		e.Message, e.Detail = e.Detail.Text, api.Detail{Text: "Snapshot not found"}
	}
}

// writeError answers with err.
func (s *Server) writeError(w http.ResponseWriter, err error, rt *route) {
	write(w, s.asStatus(err, rt))
}

// writeStatus answers with a status that is no error of ours.
func writeStatus(w http.ResponseWriter, status int, detail, hint string) {
	write(w, &api.Error{Detail: api.Detail{Text: detail}, Code: wire.CodeOfStatus(status), Hint: hint, Status: status})
}

func write(w http.ResponseWriter, e *api.Error) {
	for k, v := range e.Header {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(api.JSON(e), '\n'))
}

// Huma's own errors are about the request's shape.
func init() {
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		e := &api.Error{Detail: api.Detail{Text: msg}, Code: wire.CodeOfStatus(status), Status: status}
		for _, err := range errs {
			p := api.Problem{Loc: []any{}, Msg: err.Error(), Type: "value_error"}
			var detail *huma.ErrorDetail
			if errors.As(err, &detail) {
				p.Msg, p.Loc = detail.Message, location(detail.Location)
			}
			if strings.Contains(p.Msg, "required") {
				p.Type = "missing"
			}
			e.Detail.Problems = append(e.Detail.Problems, p)
		}
		return e
	}
}

// location is body.list[2].name as the reference writes it.
func location(at string) []any {
	loc := []any{}
	for _, part := range strings.FieldsFunc(at, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if n, err := strconv.Atoi(part); err == nil {
			loc = append(loc, n)
		} else {
			loc = append(loc, part)
		}
	}
	return loc
}
