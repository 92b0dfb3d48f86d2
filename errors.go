package bandsox

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// Code classifies an error: the same word here, over HTTP and in the SDKs.
type Code = wire.Code

// The classes. Test for one with errors.Is(err, bandsox.ErrNotFound).
const (
	CodeInvalid      = wire.Invalid
	CodeNotFound     = wire.NotFound
	CodeConflict     = wire.Conflict
	CodeUnauthorized = wire.Unauthorized
	CodeDenied       = wire.Denied
	CodeExhausted    = wire.Exhausted
	CodeTimeout      = wire.Timeout
	CodeUnavailable  = wire.Unavailable
	CodeInternal     = wire.Internal
)

type sentinel Code

func (s sentinel) Error() string { return strings.ReplaceAll(string(s), "_", " ") }

// Each matches, with errors.Is, every error of its class.
var (
	ErrInvalid      error = sentinel(CodeInvalid)
	ErrNotFound     error = sentinel(CodeNotFound)
	ErrConflict     error = sentinel(CodeConflict)
	ErrUnauthorized error = sentinel(CodeUnauthorized)
	ErrDenied       error = sentinel(CodeDenied)
	ErrExhausted    error = sentinel(CodeExhausted)
	ErrTimeout      error = sentinel(CodeTimeout)
	ErrUnavailable  error = sentinel(CodeUnavailable)
	ErrInternal     error = sentinel(CodeInternal)
)

// Error is what every method of this package returns when it fails.
type Error struct {
	Code Code
	Op   string // what was being done: "create", "exec"…
	ID   string // of what: a sandbox's id or name, an image's name; may be empty
	Err  error
	Hint string // what to do about it, most often a command; may be empty
}

func (e *Error) Error() string {
	s := e.Op
	if e.ID != "" {
		s += " " + e.ID
	}
	if s == "" {
		return e.Err.Error()
	}
	return s + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrNotFound) and its like work, and those of io/fs
// that mean the same.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Code == CodeNotFound
	case fs.ErrPermission:
		return e.Code == CodeDenied
	}
	s, ok := target.(sentinel)
	return ok && Code(s) == e.Code
}

// fail makes an Error of whatever went wrong below. An Error stays as it is,
// so that the innermost operation is the one that is named.
func fail(op, id string, err error) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	e := &Error{Code: classify(err), Op: op, ID: id, Err: err}
	var w *wire.Error
	if errors.As(err, &w) {
		e.Hint = w.Hint
	}
	return e
}

func classify(err error) Code {
	var w *wire.Error
	switch {
	case errors.As(err, &w):
		return w.Code
	case errors.Is(err, context.DeadlineExceeded):
		return CodeTimeout
	case errors.Is(err, context.Canceled):
		return CodeUnavailable
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENOMEM):
		return CodeExhausted
	case errors.Is(err, fs.ErrPermission):
		return CodeDenied
	case errors.Is(err, fs.ErrNotExist):
		return CodeNotFound
	}
	return CodeInternal
}

// invalid is the error of a caller who asked for what can't be.
func invalid(op, id, format string, args ...any) error {
	return fail(op, id, wire.Errorf(CodeInvalid, format, args...))
}
