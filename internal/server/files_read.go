package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// filePolicy lets a guest's file do nothing in a browser.
const filePolicy = "sandbox; default-src 'none'"

// shownTypes are what a browser may show of a guest's files: pictures, and what
// is text whatever is in it.
var shownTypes = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".bmp": "image/bmp", ".ico": "image/x-icon",
	".json": "application/json", ".csv": "text/csv; charset=utf-8",
}

func init() {
	for ext := range strings.SplitSeq("txt log md py js ts go rs c h cpp java rb sh toml yaml yml ini cfg conf env xml sql diff patch", " ") {
		shownTypes["."+ext] = "text/plain; charset=utf-8"
	}
}

// pathOf is the parameter path of a raw route.
func pathOf(r *http.Request) (string, error) {
	q := r.URL.Query()
	if !q.Has("path") {
		return "", missing("query", "path")
	}
	return q.Get("path"), nil
}

// missing is the error of a request without a field that it needs.
func missing(where, field string) error {
	return &api.Error{Detail: api.Detail{Problems: []api.Problem{{Loc: []any{where, field}, Msg: "Field required", Type: "missing"}}},
		Code: wire.Invalid, Status: http.StatusUnprocessableEntity}
}

// flag reads a parameter that is true or false.
func flag(r *http.Request, name string) (bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	default:
		return false, invalid("%s %q: must be true or false", name, v)
	}
}

func (s *Server) getFile(w http.ResponseWriter, r *http.Request) error {
	inline, err := flag(r, "inline")
	if err != nil {
		return err
	}
	return s.sendFile(w, r, inline)
}

func (s *Server) downloadFile(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, false)
}

// probe is how much of a file is read before the answer begins: what the guest
// says of the size of a small one is checked, since that of /proc's is 0.
const probe = 64 << 10

// openFile opens the file that a request names. The caller closes it.
func (s *Server) openFile(r *http.Request) (f *bandsox.File, name string, err error) {
	if name, err = pathOf(r); err != nil {
		return nil, "", err
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, "", err
	}
	f, err = sb.Open(r.Context(), name)
	return f, name, err
}

func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, inline bool) error {
	f, name, err := s.openFile(r)
	if err != nil {
		return err
	}
	defer f.Close()
	st := f.Stat()
	var content io.ReadSeeker = f
	if st.Size < probe {
		b := make([]byte, probe)
		n, err := io.ReadFull(f, b)
		switch {
		case err == nil: // more than it says: it goes as it comes
			fileHeaders(w, name, st, inline)
			if _, err := w.Write(b); err != nil || r.Method == http.MethodHead {
				return err
			}
			return copyOut(w, f)
		case err != io.EOF && err != io.ErrUnexpectedEOF:
			return err
		}
		content = bytes.NewReader(b[:n])
		if int64(n) == st.Size {
			w.Header().Set("ETag", etag(st))
		}
	} else {
		w.Header().Set("ETag", etag(st))
	}
	fileHeaders(w, name, st, inline)
	out := &refusals{ResponseWriter: w}
	http.ServeContent(out, r, "", st.Mtime, content)
	return out.err(name)
}

// etag tells a file's content from another: a writer changes its inode or time.
func etag(st bandsox.Stat) string {
	return fmt.Sprintf(`"%x-%x-%x"`, st.Inode, st.Size, st.Mtime.UnixNano())
}

func fileHeaders(w http.ResponseWriter, name string, st bandsox.Stat, inline bool) {
	h := w.Header()
	kind, safe := shownTypes[strings.ToLower(path.Ext(name))]
	if !safe {
		kind = "application/octet-stream"
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", filePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Content-Disposition", disposition(path.Base(name), inline && safe))
	h.Set(api.StatHeader, api.HeaderJSON(st))
}

// disposition is RFC 6266's header: the plain name for old clients, and the
// whole one.
func disposition(name string, inline bool) string {
	kind := "attachment"
	if inline {
		kind = "inline"
	}
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '%' {
			return '_'
		}
		return r
	}, name)
	whole := strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	return fmt.Sprintf(`%s; filename="%s"; filename*=UTF-8''%s`, kind, plain, whole)
}

// refusals keeps ServeContent's own words for what it refuses from the answer.
type refusals struct {
	http.ResponseWriter
	status int
}

func (f *refusals) WriteHeader(status int) {
	if status >= 400 {
		f.status = status
		return
	}
	f.ResponseWriter.WriteHeader(status)
}

func (f *refusals) Write(b []byte) (int, error) {
	if f.status != 0 {
		return len(b), nil
	}
	return f.ResponseWriter.Write(b)
}

func (f *refusals) err(name string) error {
	switch f.status {
	case 0:
		return nil
	case http.StatusPreconditionFailed:
		return &api.Error{Detail: api.Detail{Text: fmt.Sprintf("%q is another than the one asked for", name)}, Code: wire.Conflict, Status: f.status}
	case http.StatusRequestedRangeNotSatisfiable:
		return &api.Error{Detail: api.Detail{Text: fmt.Sprintf("%q has no such range", name)}, Code: wire.Invalid, Status: f.status}
	}
	return wire.Errorf(wire.Internal, "reading %q: status %d", name, f.status)
}

// readFile answers with a file as text in JSON, however long it is.
func (s *Server) readFile(w http.ResponseWriter, r *http.Request) error {
	f, name, err := s.openFile(r)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, probe)
	n, rerr := io.ReadFull(f, buf)
	if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
		return rerr
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := fmt.Fprintf(w, `{"path":%s,"content":"`, api.JSON(wire.Text(name))); err != nil {
		return err
	}
	var escaped bytes.Buffer
	enc := json.NewEncoder(&escaped)
	enc.SetEscapeHTML(false)
	var cut texts
	for {
		b := cut.cut(0, buf[:n])
		if rerr != nil {
			b = append(b[:len(b):len(b)], cut.rest(0)...)
		}
		escaped.Reset()
		_ = enc.Encode(text(b)) // a string can't fail
		if _, err := w.Write(escaped.Bytes()[1 : escaped.Len()-2]); err != nil {
			return err
		}
		switch rerr {
		case nil:
			n, rerr = f.Read(buf)
		case io.EOF, io.ErrUnexpectedEOF:
			_, err := io.WriteString(w, "\"}\n")
			return err
		default:
			return rerr
		}
	}
}
