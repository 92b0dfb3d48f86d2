package wire

import (
	"encoding/json"
	"strings"
	"unicode"
)

const (
	maxErrorText = 4 << 10 // of an error's message that comes from the other side
	maxWord      = 256     // of a version, a name
)

func encodeError(e *Error) []byte {
	if e == nil {
		return nil
	}
	short := Error{Code: e.Code, Message: cut(e.Message, maxErrorText/8), Hint: cut(e.Hint, maxErrorText/8)}
	p, err := json.Marshal(short)
	if err != nil {
		return nil
	}
	return p
}

func decodeError(p []byte) *Error {
	if len(p) == 0 {
		return Errorf(Unavailable, "the other side closed the stream")
	}
	var e Error
	if err := json.Unmarshal(p, &e); err != nil {
		return Errorf(Unavailable, "the other side reset the stream and did not say why")
	}
	return e.tame()
}

// tame makes an error of the other side's fit to be shown: it is known to be
// one of ours in class and length, moves no cursor, and tells nobody what to type.
func (e *Error) tame() *Error {
	if e == nil {
		return nil
	}
	code := e.Code
	switch code {
	case Invalid, NotFound, Conflict, Unauthorized, Denied, Exhausted, Timeout, Unavailable, Internal:
	default:
		code = Internal
	}
	return &Error{Code: code, Message: strings.Map(printable, cut(e.Message, maxErrorText))}
}

func (r *HelloReply) tame() {
	for _, s := range [...]*string{&r.Agent, &r.Kernel, &r.BootID} {
		*s = strings.Map(printable, cut(*s, maxWord))
	}
	r.Error = r.Error.tame()
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// cut shortens s to n bytes, and to whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// ParseControl reads a KindControl message. An Error in it has been made safe to show.
func ParseControl(p []byte) (Control, error) {
	var c Control
	if err := json.Unmarshal(p, &c); err != nil {
		return Control{}, Errorf(Internal, "reading a message: %v", err)
	}
	set := 0
	for _, is := range [...]bool{
		c.Started != nil, c.Exit != nil, c.Signal != nil, c.Resize != nil, c.Processes != nil,
		c.Stats != nil, c.Stat != nil, c.Done != nil, c.Error != nil,
	} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Control{}, Errorf(Internal, "reading a message: %d fields are set where one must be", set)
	}
	c.Error = c.Error.tame()
	return c, nil
}
