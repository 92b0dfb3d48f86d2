package wire

import (
	"encoding/json"
	"unicode/utf8"
)

// Text is a string of any bytes, as paths and lines of files are. JSON has no
// way to say those that are not UTF-8, and Go's writes another character in
// their place. So each such byte goes as the lone surrogate \udc80 to \udcff, as
// Python's surrogateescape has it: text stays text, and comes back whole.
type Text string

// MarshalJSON writes t as a JSON string.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	const hex = "0123456789abcdef"
	b := []byte{'"'}
	for len(t) > 0 {
		n := 0
		for n < len(t) {
			r, size := utf8.DecodeRuneInString(string(t[n:]))
			if r == utf8.RuneError && size == 1 {
				break
			}
			n += size
		}
		good, err := json.Marshal(string(t[:n]))
		if err != nil {
			return nil, err
		}
		b = append(b, good[1:len(good)-1]...)
		if n < len(t) {
			c := t[n]
			b = append(b, '\\', 'u', 'd', 'c', hex[c>>4], hex[c&15])
			n++
		}
		t = t[n:]
	}
	return append(b, '"'), nil
}

// UnmarshalJSON reads what MarshalJSON has written.
func (t *Text) UnmarshalJSON(b []byte) error {
	var out []byte
	from := 0
	decode := func(to int) error {
		var s string
		err := json.Unmarshal(append(append([]byte{'"'}, b[from:to]...), '"'), &s)
		out = append(out, s...)
		return err
	}
	if len(b) < 2 || b[0] != '"' {
		return json.Unmarshal(b, (*string)(t)) // which says what is wrong, if anything is
	}
	end := len(b) - 1
	from = 1
	for i := 1; i < end; i++ {
		if b[i] != '\\' {
			continue
		}
		u, ok := surrogate(b[i:end])
		switch {
		case !ok:
			i++ // what is escaped
		case u < 0xDC00: // the first of a pair
			i += 5
			if low, ok := surrogate(b[i+1 : end]); ok && low >= 0xDC00 {
				i += 6
			}
		case u >= 0xDC80 && u <= 0xDCFF:
			if err := decode(i); err != nil {
				return err
			}
			out = append(out, byte(u))
			i += 5
			from = i + 1
		default:
			i += 5
		}
	}
	if err := decode(end); err != nil {
		return err
	}
	*t = Text(out)
	return nil
}

// surrogate reads the escape \ud800 to \udfff that b begins with.
func surrogate(b []byte) (uint16, bool) {
	if len(b) < 6 || b[1] != 'u' {
		return 0, false
	}
	u := uint16(0)
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		u = u<<4 | uint16(c)
	}
	return u, u >= 0xD800 && u <= 0xDFFF
}

// texts is s, to be written as Text.
func texts(s []string) []Text {
	if s == nil {
		return nil
	}
	t := make([]Text, len(s))
	for i := range s {
		t[i] = Text(s[i])
	}
	return t
}

func plain(t []Text) []string {
	if t == nil {
		return nil
	}
	s := make([]string, len(t))
	for i := range t {
		s[i] = string(t[i])
	}
	return s
}
