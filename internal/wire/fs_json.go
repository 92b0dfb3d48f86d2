package wire

import (
	"encoding/json"
	"unicode/utf8"
)

// What holds paths and lines says them as Text in JSON, and as strings to Go.

// MarshalJSON keeps bytes that are not UTF-8, as Text does; so do its like.
func (s Stat) MarshalJSON() ([]byte, error) {
	type bare Stat
	return json.Marshal(struct {
		Path Text `json:"path"`
		bare
		Target Text `json:"target,omitempty"`
	}{Text(s.Path), bare(s), Text(s.Target)})
}

// UnmarshalJSON reads what MarshalJSON has written.
func (s *Stat) UnmarshalJSON(b []byte) error {
	type bare Stat
	j := struct {
		Path Text `json:"path"`
		*bare
		Target Text `json:"target,omitempty"`
	}{bare: (*bare)(s)}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	s.Path, s.Target = string(j.Path), string(j.Target)
	return nil
}

// MarshalJSON keeps bytes that are not UTF-8.
func (l Line) MarshalJSON() ([]byte, error) {
	type bare Line
	return json.Marshal(struct {
		bare
		Text Text `json:"text"`
	}{bare(l), Text(l.Text)})
}

// UnmarshalJSON reads what MarshalJSON has written.
func (l *Line) UnmarshalJSON(b []byte) error {
	type bare Line
	j := struct {
		*bare
		Text Text `json:"text"`
	}{bare: (*bare)(l)}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	l.Text = string(j.Text)
	return nil
}

// MarshalJSON keeps bytes that are not UTF-8.
func (m Match) MarshalJSON() ([]byte, error) {
	type bare Match
	return json.Marshal(struct {
		Path Text `json:"path"`
		bare
		Text   Text   `json:"text"`
		Before []Text `json:"before,omitempty"`
		After  []Text `json:"after,omitempty"`
	}{Text(m.Path), bare(m), Text(m.Text), texts(m.Before), texts(m.After)})
}

// UnmarshalJSON reads what MarshalJSON has written.
func (m *Match) UnmarshalJSON(b []byte) error {
	type bare Match
	j := struct {
		Path Text `json:"path"`
		*bare
		Text   Text   `json:"text"`
		Before []Text `json:"before,omitempty"`
		After  []Text `json:"after,omitempty"`
	}{bare: (*bare)(m)}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	m.Path, m.Text, m.Before, m.After = string(j.Path), string(j.Text), plain(j.Before), plain(j.After)
	return nil
}

// MarshalJSON keeps bytes that are not UTF-8.
func (e FileEvent) MarshalJSON() ([]byte, error) {
	type bare FileEvent
	return json.Marshal(struct {
		Path Text `json:"path"`
		From Text `json:"from,omitempty"`
		bare
	}{Text(e.Path), Text(e.From), bare(e)})
}

// UnmarshalJSON reads what MarshalJSON has written.
func (e *FileEvent) UnmarshalJSON(b []byte) error {
	type bare FileEvent
	j := struct {
		Path Text `json:"path"`
		From Text `json:"from,omitempty"`
		*bare
	}{bare: (*bare)(e)}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	e.Path, e.From = string(j.Path), string(j.From)
	return nil
}

// MarshalJSON keeps a path that is not UTF-8: beside the others, so that the
// requests with a path need no methods of their own.
func (r Request) MarshalJSON() ([]byte, error) {
	type bare Request
	j := struct {
		bare
		Path Text `json:"path,omitempty"`
	}{bare: bare(r)}
	if p := r.path(); p != nil && !utf8.ValidString(*p) {
		j.Path = Text(*p)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON has written.
func (r *Request) UnmarshalJSON(b []byte) error {
	type bare Request
	j := struct {
		*bare
		Path Text `json:"path"`
	}{bare: (*bare)(r)}
	err := json.Unmarshal(b, &j)
	if p := r.path(); p != nil && j.Path != "" {
		*p = string(j.Path)
	}
	return err
}

func (r *Request) path() *string {
	switch {
	case r.Stat != nil:
		return &r.Stat.Path
	case r.Read != nil:
		return &r.Read.Path
	case r.Write != nil:
		return &r.Write.Path
	case r.Tree != nil:
		return &r.Tree.Path
	}
	return nil
}
