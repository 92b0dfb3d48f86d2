package server

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// getTree sends an archive. What comes of a tree that could not be read as it
// was is whole all the same: who takes trailers is told.
func (s *Server) getTree(w http.ResponseWriter, r *http.Request) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	zip, err := flag(r, "gzip")
	if err != nil {
		return err
	}
	q := r.URL.Query()
	o := bandsox.CopyOptions{Name: q.Get("name")}
	if o.Follow, err = flag(r, "follow"); err != nil {
		return err
	}
	if o.MaxBytes, err = count(r, "max_bytes"); err != nil {
		return err
	}
	if o.MaxEntries, err = count(r, "max_entries"); err != nil {
		return err
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	told := takesTrailers(r)
	if told {
		w.Header().Set("Trailer", api.ErrorTrailer)
	}
	out := &archive{w: w, name: path.Base(path.Join("/", name)) + ".tar", zip: zip}
	err = sb.Tar(r.Context(), name, out, o)
	if cerr := out.close(); err == nil {
		err = cerr
	}
	if err != nil && !out.begun {
		w.Header().Del("Trailer")
	}
	if err == nil || !out.begun {
		return err
	}
	if told {
		w.Header().Set(api.ErrorTrailer, api.HeaderJSON(s.asStatus(err, nil)))
		return nil
	}
	if errors.Is(err, bandsox.ErrConflict) { // a warning
		s.log.Warn("tree sent, but not as it was", "id", sb.ID(), "path", name, "err", err)
		return nil
	}
	return err
}

// takesTrailers reports whether a request's sender says that it reads trailers.
func takesTrailers(r *http.Request) bool {
	return strings.Contains(strings.ToLower(r.Header.Get("TE")), "trailers")
}

// count is a parameter that is a number, not negative; 0 if it isn't given.
func count(r *http.Request, name string) (int64, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, invalid("%s %q: must be a number", name, v)
	}
	return n, nil
}

// archive begins the answer with the first byte of a tar archive, so that an
// error before is still one.
type archive struct {
	w     http.ResponseWriter
	name  string
	zip   bool
	begun bool
	gz    *gzip.Writer
}

func (a *archive) Write(p []byte) (int, error) {
	if !a.begun {
		a.begun = true
		kind := "application/x-tar"
		if a.zip {
			kind, a.name = "application/gzip", a.name+".gz"
			a.gz, _ = gzip.NewWriterLevel(a.w, gzip.BestSpeed) // a level there is
		}
		a.w.Header().Set("Content-Type", kind)
		a.w.Header().Set("Content-Security-Policy", filePolicy)
		a.w.Header().Set("Content-Disposition", disposition(a.name, false))
	}
	if a.gz != nil {
		return a.gz.Write(p)
	}
	return a.w.Write(p)
}

func (a *archive) close() error {
	if a.gz == nil {
		return nil
	}
	return a.gz.Close()
}

func (s *Server) putTree(w http.ResponseWriter, r *http.Request) error {
	name, err := pathOf(r)
	if err != nil {
		return err
	}
	own, err := flag(r, "own")
	if err != nil {
		return err
	}
	zip, err := flag(r, "gzip")
	if err != nil {
		return err
	}
	most, err := count(r, "max_bytes")
	if err != nil {
		return err
	}
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	src := io.Reader(r.Body)
	if zip || r.Header.Get("Content-Encoding") == "gzip" {
		gz, err := gzip.NewReader(src)
		if err != nil {
			return invalid("reading the archive: %w", err)
		}
		src = gz
	}
	if most > 0 {
		src = &limited{src, most}
	}
	n, err := sb.Untar(r.Context(), src, name, bandsox.CopyOptions{Own: own})
	if err != nil {
		return err
	}
	return answerJSON(w, api.Written{Status: "written", Path: wire.Text(name), Bytes: n})
}

// limited fails when more is read than left.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, &tooMuch{invalid("the archive is longer than max_bytes")}
	}
	return n, err
}
