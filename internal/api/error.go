// Package api holds the bodies that travel over HTTP and are no types of the
// library: what requests ask for, short answers, errors and the frames of
// streams. The server reads what the client writes, so both have them from
// here. Times in it are seconds, as the reference's API has them.
package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Error is the body of every answer that is no success.
type Error struct {
	Detail  Detail    `json:"detail" doc:"What is wrong: text, or the list of what is wrong with the request"`
	Code    wire.Code `json:"code" enum:"invalid,not_found,conflict,unauthorized,denied,exhausted,timeout,unavailable,internal" doc:"The class of the error"`
	Hint    string    `json:"hint,omitempty" doc:"What to do about it: most often the next command to type"`
	Message string    `json:"message,omitempty" doc:"What is wrong, where detail is in the reference's words"`
	Op      string    `json:"op,omitempty" doc:"What was being done"`
	ID      string    `json:"id,omitempty" doc:"With what: a sandbox's id, an image's name"`

	Status int         `json:"-"` // of the answer
	Header http.Header `json:"-"` // of the answer: Retry-After, say
}

// Error, GetStatus and GetHeaders let the error be the answer.
func (e *Error) Error() string { return e.Detail.String() }

// GetStatus is the answer's status.
func (e *Error) GetStatus() int { return e.Status }

// GetHeaders are further headers of the answer.
func (e *Error) GetHeaders() http.Header { return e.Header }

// Detail is a sentence, or what is wrong with each part of a request.
type Detail struct {
	Text     string
	Problems []Problem
}

// Problem is what is wrong with one part of a request.
type Problem struct {
	Loc  []any  `json:"loc"` // where: "body", "metadata", 3…
	Msg  string `json:"msg"`
	Type string `json:"type"`
}

// String is all of it in one line.
func (d Detail) String() string {
	if len(d.Problems) == 0 {
		return d.Text
	}
	var lines []string
	for _, p := range d.Problems {
		line := p.Msg
		if where := p.where(); where != "" {
			line = where + ": " + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func (p Problem) where() string {
	var parts []string
	for _, l := range p.Loc {
		b, _ := json.Marshal(l)
		parts = append(parts, strings.Trim(string(b), `"`))
	}
	return strings.Join(parts, ".")
}

// MarshalJSON writes the text, or the list.
func (d Detail) MarshalJSON() ([]byte, error) {
	if len(d.Problems) > 0 {
		return json.Marshal(d.Problems)
	}
	return json.Marshal(d.Text)
}

// UnmarshalJSON reads what MarshalJSON wrote, and takes anything else as text:
// what a proxy in between answers is shown rather than lost.
func (d *Detail) UnmarshalJSON(b []byte) error {
	*d = Detail{}
	if json.Unmarshal(b, &d.Text) != nil && json.Unmarshal(b, &d.Problems) != nil {
		d.Text = string(b)
	}
	return nil
}
