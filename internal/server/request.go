package server

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

const (
	maxAnswer       = 16 << 20 // of one that is held in memory
	maxRedirects    = 10
	requestPatience = 30 * time.Second
)

func (s *Server) requestVM(ctx context.Context, in *struct {
	VMRef
	Body api.HTTPRequest
}) (*answer[api.HTTPAnswer], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	patience := requestPatience
	if in.Body.Timeout != 0 {
		patience = in.Body.Timeout.Duration()
	}
	if patience < 0 {
		return nil, invalid("timeout %v: must be positive", patience)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := guestRequest(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	client := http.Client{
		Transport:     atGuest{s.guests, relayed{id: sb.ID(), port: in.Body.Port}},
		CheckRedirect: func(next *http.Request, via []*http.Request) error { return followed(next, len(via), in.Body.Port) },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, requestError(err, in.Body.Port, patience)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, requestError(err, in.Body.Port, patience)
	case len(body) > maxAnswer:
		return nil, &tooMuch{wire.Errorf(wire.Invalid, "the server's answer is larger than %d MiB", maxAnswer>>20).
			WithHint("get it from /proxy/%s/%d%s, which has no limit", sb.ID(), in.Body.Port, req.URL.RequestURI())}
	}
	out := api.HTTPAnswer{StatusCode: resp.StatusCode, Headers: map[string]string{}, Body: string(body)}
	for k, v := range resp.Header {
		out.Headers[k] = strings.Join(v, ", ")
	}
	if !utf8.Valid(body) {
		out.Body = strings.ToValidUTF8(out.Body, "\uFFFD")
		out.BodyBase64 = base64.StdEncoding.EncodeToString(body)
	}
	return answered(out), nil
}

// guestRequest is what b asks for, of a server that takes itself for localhost.
func guestRequest(ctx context.Context, b api.HTTPRequest) (*http.Request, error) {
	if b.Path == "" {
		b.Path = "/"
	}
	path, err := url.ParseRequestURI(b.Path)
	if err != nil || !strings.HasPrefix(b.Path, "/") {
		return nil, invalid("path %q: must begin with / and be a URL's path and query", b.Path)
	}
	path.Scheme, path.Host = "http", net.JoinHostPort("localhost", strconv.Itoa(b.Port))
	if strings.HasPrefix(b.Path, "//") { // which a URL takes for a host
		rest, query, _ := strings.Cut(b.Path, "?")
		path.Path, path.RawQuery = rest, query
	}
	kind, body := "", ""
	switch {
	case b.Body != nil && len(b.JSONBody) > 0:
		return nil, invalid("body and json_body: only one of them can be the body")
	case b.Body != nil:
		body = *b.Body
	case len(b.JSONBody) > 0 && string(b.JSONBody) != "null":
		kind, body = "application/json", string(b.JSONBody)
	}
	req, err := http.NewRequestWithContext(ctx, strings.ToUpper(b.Method), path.String(), strings.NewReader(body))
	if err != nil {
		return nil, invalid("method %q: %v", b.Method, err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for k, v := range b.Headers {
		if !validHeader(k, v) {
			return nil, invalid("header %q: is no header that a request can have", k)
		}
		if strings.EqualFold(k, "Host") {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	return req, nil
}

// validHeader: a name of letters, digits and dashes, a value of one line. What
// frames the request is the transport's.
func validHeader(k, v string) bool {
	switch strings.ToLower(k) {
	case "", "content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te", "keep-alive":
		return false
	}
	return strings.Trim(k, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" &&
		!strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// followed says whether a redirect is followed: within the server only, and
// otherwise it is the answer.
func followed(next *http.Request, hops, port int) error {
	if !(relayed{port: port}).isSelf(next.URL) || next.URL.Scheme != "http" {
		return http.ErrUseLastResponse
	}
	if hops >= maxRedirects {
		return wire.Errorf(wire.Unavailable, "the server on port %d redirects more than %d times", port, maxRedirects)
	}
	return nil
}

// atGuest makes the requests for localhost to a guest's server.
type atGuest struct {
	via *http.Transport
	to  relayed
}

func (a atGuest) RoundTrip(r *http.Request) (*http.Response, error) {
	at := *r
	u := *r.URL
	if at.Host == "" {
		at.Host = u.Host
	}
	u.Host = a.to.host()
	at.URL = &u
	return a.via.RoundTrip(&at)
}

// requestError is why a request to a guest's server failed.
func requestError(err error, port int, patience time.Duration) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return wire.Errorf(wire.Timeout, "the server on port %d did not answer in %v", port, patience)
	case ownFailure(err):
		return err
	}
	return wire.Errorf(wire.Unavailable, "the server on port %d gave no good answer: %v", port, err)
}
