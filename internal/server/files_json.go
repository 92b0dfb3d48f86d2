package server

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// maxContent is the longest content of a file in JSON, decoded; maxEncoded what
// that is in base64.
const (
	maxContent = 256 << 20
	maxEncoded = (maxContent + 2) / 3 * 4
)

func (s *Server) writeFile(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSONFile(w, r, false)
}

func (s *Server) appendFile(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSONFile(w, r, true)
}

// writeJSONFile reads a body whose content may be long and come before the rest.
func (s *Server) writeJSONFile(w http.ResponseWriter, r *http.Request, add bool) error {
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	aside := s.newSpool()
	defer aside.close()
	split := contentSplitter{r: bufio.NewReaderSize(r.Body, 64<<10), content: aside}
	if err := split.run(); err != nil {
		return err
	}
	var body struct {
		Path     *wire.Text `json:"path"`
		Content  *string    `json:"content"`
		Encoding string     `json:"encoding"`
		Append   bool       `json:"append"`
	}
	if err := json.Unmarshal(split.rest.Bytes(), &body); err != nil {
		return invalid("the body must be JSON: %w", err)
	}
	switch {
	case body.Path == nil:
		return missing("body", "path")
	case body.Content == nil:
		return missing("body", "content")
	case body.Encoding != "" && body.Encoding != "utf-8" && body.Encoding != "base64":
		return invalid("encoding %q: must be utf-8 or base64", body.Encoding)
	}
	content, err := aside.content()
	if err != nil {
		return err
	}
	if body.Encoding == "base64" {
		n, err := io.Copy(io.Discard, base64.NewDecoder(base64.StdEncoding, content))
		if err != nil {
			return invalid("content: bad base64: %w", err)
		}
		if n > maxContent {
			return tooLong()
		}
		if content, err = aside.content(); err != nil {
			return err
		}
		content = base64.NewDecoder(base64.StdEncoding, content)
	}
	done := "written"
	if add || body.Append {
		done = "appended"
		_, err = sb.Write(r.Context(), string(*body.Path), content, bandsox.WriteOptions{Append: true})
	} else {
		_, err = sb.WriteFrom(r.Context(), string(*body.Path), content, 0)
	}
	if err != nil {
		return err
	}
	return answerJSON(w, map[string]any{"status": done, "path": *body.Path})
}

func tooLong() error {
	return &tooMuch{invalid("content: more than %d MiB", maxContent>>20).WithHint("PUT …/file takes bytes, as many as there are")}
}

// answerJSON answers a raw route with JSON.
func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(append(api.JSON(v), '\n'))
	return err
}

// contentSplitter copies a JSON object to rest, but what the string "content"
// holds, which goes to content: it may be larger than memory. What is not JSON
// is found by who parses rest.
type contentSplitter struct {
	r       *bufio.Reader
	content *spool
	rest    bytes.Buffer
}

func (c *contentSplitter) run() error {
	depth, key, isKey := 0, "", false
	for {
		b, err := c.r.ReadByte()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if c.rest.Len() > maxJSONBody {
			return &tooMuch{invalid("the body without content: more than %d MiB", maxJSONBody>>20)}
		}
		if b != '"' {
			c.rest.WriteByte(b)
		}
		switch b {
		case '{', '[':
			depth++
			isKey = b == '{' && depth == 1
		case '}', ']':
			depth--
		case ',':
			isKey = depth == 1
		case ':':
			isKey = false
		case '"':
			switch {
			case depth == 1 && !isKey && key == "content":
				c.content.reset()
				if err := c.str(c.toContent); err != nil {
					return err
				}
				c.rest.WriteString(`""`)
			default:
				start := c.rest.Len()
				c.rest.WriteByte('"')
				if err := c.str(func(raw []byte) error {
					if c.rest.Len()+len(raw) > maxJSONBody {
						return &tooMuch{invalid("the body without content: more than %d MiB", maxJSONBody>>20)}
					}
					c.rest.Write(raw)
					return nil
				}); err != nil {
					return err
				}
				c.rest.WriteByte('"')
				if depth == 1 && isKey {
					key = ""
					_ = json.Unmarshal(c.rest.Bytes()[start:], &key) // whoever parses rest says what is wrong
				}
			}
		}
	}
}

// str passes on a JSON string's raw text up to its end, in pieces that tear no
// character and no escape.
func (c *contentSplitter) str(put func(raw []byte) error) error {
	const piece = 32 << 10
	raw := make([]byte, 0, piece+16)
	half := false // the last one was an escaped half of a pair
	for {
		b, err := c.r.ReadByte()
		if err == io.EOF {
			err = invalid("the body must be JSON: it ends within a string")
		}
		if err != nil {
			return err
		}
		if b == '"' || len(raw) >= piece && b&0xC0 != 0x80 && !half {
			if err := put(raw); err != nil {
				return err
			}
			raw = raw[:0]
		}
		if b == '"' {
			return nil
		}
		half = false
		raw = append(raw, b)
		if b != '\\' {
			continue
		}
		escape, err := c.r.Peek(1)
		n := 1
		if err == nil && escape[0] == 'u' {
			n = 5
		}
		for range n {
			if b, err = c.r.ReadByte(); err != nil {
				return invalid("the body must be JSON: it ends within a string")
			}
			raw = append(raw, b)
		}
		if n == 5 {
			high := raw[len(raw)-4:]
			half = (high[0] == 'd' || high[0] == 'D') && (high[1] == '8' || high[1] == '9' || high[1]|0x20 == 'a' || high[1]|0x20 == 'b')
		}
	}
}

func (c *contentSplitter) toContent(raw []byte) error {
	if c.content.n+int64(len(raw)) > 6*maxEncoded { // whatever is escaped
		return tooLong()
	}
	var t wire.Text
	if err := json.Unmarshal(append(append([]byte{'"'}, raw...), '"'), &t); err != nil {
		return invalid("content: must be a JSON string: %w", err)
	}
	if c.content.n+int64(len(t)) > maxEncoded+maxEncoded>>6 { // and newlines
		return tooLong()
	}
	_, err := c.content.Write([]byte(t))
	return err
}
