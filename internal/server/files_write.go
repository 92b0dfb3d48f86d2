package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"strconv"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

func (s *Server) putFile(w http.ResponseWriter, r *http.Request) error {
	o, err := writeOptions(r)
	if err != nil {
		return err
	}
	if r.Header.Get("Content-Range") != "" {
		return invalid("Content-Range: give partial and offset instead")
	}
	src := io.Reader(r.Body)
	offset := r.URL.Query().Get("offset")
	switch {
	case o.Partial != "":
		at := int64(0)
		if offset != "" {
			if at, err = strconv.ParseInt(offset, 10, 64); err != nil || at < 0 {
				return invalid("offset %q: must be a number of bytes", offset)
			}
		}
		src = &bodyAt{r.Body, at}
	case offset != "":
		return invalid("offset goes with partial")
	}
	return s.write(w, r, src, o, "written")
}

func (s *Server) patchFile(w http.ResponseWriter, r *http.Request) error {
	o, err := writeOptions(r)
	if err != nil {
		return err
	}
	if o.Partial != "" || o.New {
		return invalid("partial and If-None-Match are for PUT")
	}
	o.Append = true
	return s.write(w, r, r.Body, o, "appended")
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, src io.Reader, o bandsox.WriteOptions, done string) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	n, err := sb.Write(r.Context(), name, src, o)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return invalid("the body ended before all the bytes had come that it was to have")
	}
	if err != nil {
		return err
	}
	return answerJSON(w, api.Written{Status: done, Path: wire.Text(name), Bytes: n})
}

func writeOptions(r *http.Request) (bandsox.WriteOptions, error) {
	q := r.URL.Query()
	o := bandsox.WriteOptions{Owner: q.Get("owner"), Partial: q.Get("partial")}
	if mode := q.Get("mode"); mode != "" {
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || bits > 0o7777 {
			return o, invalid("mode %q: must be octal, as 644", mode)
		}
		o.Perm = modeOf(uint32(bits))
	}
	if r.Header.Get("If-Match") != "" {
		return o, invalid("If-Match can't be kept here: the file may change while the body comes")
	}
	switch match := r.Header.Get("If-None-Match"); match {
	case "":
	case "*":
		o.New = true
	default:
		return o, invalid("If-None-Match %q: only * has a meaning here", match)
	}
	return o, nil
}

// modeOf is chmod's bits as Go has them.
func modeOf(bits uint32) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			m |= flag
		}
	}
	return m
}

// bodyAt is a request's body that begins at an offset of the file.
type bodyAt struct {
	r  io.Reader
	at int64
}

func (b *bodyAt) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.at += int64(n)
	return n, err
}

// Seek goes forwards.
func (b *bodyAt) Seek(to int64, _ int) (int64, error) {
	if to < b.at {
		return 0, wire.Errorf(wire.Conflict, "the guest has %d bytes, and the body begins at %d", to, b.at).WithHint("ask POST …/files/partial again")
	}
	_, err := io.CopyN(io.Discard, b, to-b.at)
	if err == io.EOF {
		err = wire.Errorf(wire.Conflict, "the guest has %d bytes, more than the body", to)
	}
	return to, err
}

// partialFile asks the guest by beginning to write, and leaves it at that.
func (s *Server) partialFile(ctx context.Context, in *inVM[api.Partial]) (*answer[api.Offset], error) {
	if in.Body.Key == "" {
		return nil, invalid("key: must not be empty")
	}
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	ask := &asking{}
	if _, err := sb.Write(ctx, string(in.Body.Path), ask, bandsox.WriteOptions{Partial: in.Body.Key}); !errors.Is(err, errAsked) {
		return nil, err
	}
	return answered(api.Offset{Offset: ask.have}), nil
}

var errAsked = errors.New("only asked")

// asking learns how much there is.
type asking struct{ have int64 }

func (a *asking) Read([]byte) (int, error) { return 0, errAsked }
func (a *asking) Seek(to int64, _ int) (int64, error) {
	a.have = to
	return 0, errAsked
}

// maxFormField is the longest field of a form that is no file.
const maxFormField = 64 << 10

// uploadFile takes a form whose parts come in any order: a file that comes
// before it is known where to is put aside.
func (s *Server) uploadFile(w http.ResponseWriter, r *http.Request) error {
	form, err := r.MultipartReader()
	if err != nil {
		return invalid("the body must be a form: %w", err)
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	var name *string
	var aside *spool
	written := false
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return invalid("reading the form: %w", err)
		}
		switch field := part.FormName(); {
		case field == "remote_path":
			v, err := formField(part)
			if err != nil {
				return err
			}
			name = &v
		case field != "file" || written || aside != nil:
		case name != nil:
			if _, err := sb.WriteFrom(r.Context(), *name, part, 0); err != nil {
				return err
			}
			written = true
		default:
			aside = s.newSpool()
			defer aside.close()
			if _, err := io.Copy(aside, part); err != nil {
				return err
			}
		}
	}
	switch {
	case name == nil:
		return missing("body", "remote_path")
	case written:
	case aside == nil:
		return missing("body", "file")
	default:
		content, err := aside.content()
		if err != nil {
			return err
		}
		if _, err := sb.WriteFrom(r.Context(), *name, content, 0); err != nil {
			return err
		}
	}
	return answerJSON(w, map[string]any{"status": "uploaded", "path": wire.Text(*name)})
}

func formField(part *multipart.Part) (string, error) {
	b, err := io.ReadAll(io.LimitReader(part, maxFormField+1))
	if err == nil && len(b) > maxFormField {
		err = &tooMuch{invalid("%s: more than %d bytes", part.FormName(), maxFormField)}
	}
	return string(b), err
}
