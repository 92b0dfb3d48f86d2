package server

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
	"github.com/bandsox/bandsox/web"
)

// pageRoutes are the dashboard: one application that looks at its own address.
// They need nobody to be known, because they send whoever isn't to log in.
var pageRoutes = []route{
	{method: "GET", path: "/{$}", need: auth.NeedNone, hidden: true, do: stream((*Server).page, nil)},
	{method: "GET", path: "/vm_details", need: auth.NeedNone, hidden: true, do: stream((*Server).page, nil)},
	{method: "GET", path: "/terminal", need: auth.NeedNone, hidden: true, do: stream((*Server).page, nil)},
	{method: "GET", path: "/markdown_viewer", need: auth.NeedNone, hidden: true, do: stream((*Server).page, nil)},
	{method: "GET", path: "/login", need: auth.NeedNone, hidden: true, do: stream((*Server).loginPage, nil)},
	{method: "GET", path: "/static/{name}", need: auth.NeedNone, hidden: true, do: stream((*Server).static, nil)},
	{method: "GET", path: "/favicon.ico", need: auth.NeedNone, hidden: true, do: stream((*Server).favicon, nil)},
}

// page answers with the application, or with the way to the login page and back.
func (s *Server) page(w http.ResponseWriter, r *http.Request) error {
	if auth.From(r.Context()).Known() {
		return s.loginPage(w, r)
	}
	to := "/login"
	if r.URL.Path != "/" || r.URL.RawQuery != "" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) error {
	f, ok := web.Open(web.Page)
	if !ok {
		return wire.Errorf(wire.Internal, "this build has no pages").WithHint("make web")
	}
	w.Header().Set("Cache-Control", "no-cache")
	sendFile(w, r, f)
	return nil
}

func (s *Server) static(w http.ResponseWriter, r *http.Request) error {
	f, ok := web.Open(r.PathValue("name"))
	if !ok || f.Name == web.Page {
		return wire.Errorf(wire.NotFound, "Not Found")
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // its name has its hash
	sendFile(w, r, f)
	return nil
}

// favicon is what browsers ask for where no page says otherwise.
func (s *Server) favicon(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "public, max-age=86400")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// sendFile answers with f, compressed for those who take that.
func sendFile(w http.ResponseWriter, r *http.Request, f web.File) {
	h := w.Header()
	h.Set("Content-Type", f.Type)
	h.Set("Vary", "Accept-Encoding")
	body, tag := f.Body, f.ETag
	if takesGzip(r.Header.Get("Accept-Encoding")) && r.Header.Get("Range") == "" {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(f.Gzip))) // ServeContent leaves it out where there is an encoding
		body, tag = f.Gzip, tag+"-gz"
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// takesGzip reads an Accept-Encoding as far as we need it.
func takesGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q := strings.TrimPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			weight, err := strconv.ParseFloat(q, 64)
			return q == "" || err == nil && weight > 0
		}
	}
	return false
}
