package wire

import (
	"errors"
	"fmt"
)

// Code classifies an error the same way in every package, over HTTP and in
// the SDKs. There are only these.
type Code string

const (
	Invalid      Code = "invalid"      // the caller's input is wrong
	NotFound     Code = "not_found"    // no such thing
	Conflict     Code = "conflict"     // not in this state; exists already
	Unauthorized Code = "unauthorized" // who are you?
	Denied       Code = "denied"       // you may not
	Exhausted    Code = "exhausted"    // disk full, limit or quota reached
	Timeout      Code = "timeout"      // not in time
	Unavailable  Code = "unavailable"  // can't be reached, or gone, now
	Internal     Code = "internal"     // ours to mend
)

// Error is an error with its class and, where there is one, the next thing to
// try. It is how the lower packages say more than text without importing the
// library, and how the agent's errors travel: their class and message, made
// safe to show; a guest does not tell the host what to type.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`        // lower case: doing X "value": cause
	Hint    string `json:"hint,omitempty"` // the next command to type
	Err     error  `json:"-"`
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error. A %w verb keeps its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint returns e with the next thing to try.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// CodeOf returns the class of the first Error in err's chain, else Internal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
