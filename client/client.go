// Package client speaks to a BandSox server. It has the methods of the library,
// with its types and its errors:
//
//	m, err := client.Dial(ctx, "http://127.0.0.1:8000", client.Options{})
//	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: "python:3-alpine"})
//	defer sb.Delete(ctx)
//	out, err := sb.Command("python3", "-c", "print(6*7)").Output(ctx)
//
// A [Client] is a server's manager, a [Sandbox] one of its sandboxes, a [Cmd] a
// program to run in one.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// Options are how to speak to a server. The zero value works with one that
// asks for no key.
type Options struct {
	Key string      // an API key
	TLS *tls.Config // of https: certificate authorities, say
	// Dial makes the connections in place of net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client is a server. Its methods may be called by many goroutines at once.
type Client struct {
	base *url.URL
	http *http.Client
	key  string

	version Version
}

// Version is what a server says of itself.
type Version = api.Version

// Dial finds the server at a URL: http://HOST:PORT, https://HOST:PORT or
// unix://PATH, its socket in the state directory.
func Dial(ctx context.Context, address string, o Options) (*Client, error) {
	c, err := newClient(address, o)
	if err != nil {
		return nil, err
	}
	if err := c.get(ctx, "dial", "/version", nil, &c.version); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Version is what the server said of itself when it was found.
func (c *Client) Version() Version { return c.version }

func newClient(address string, o Options) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, failure("dial", "", wire.Errorf(wire.Invalid, "%w", err))
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		path := u.Path
		u = &url.URL{Scheme: "http", Host: "localhost"}
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, path) }
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		u = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	default:
		return nil, failure("dial", "", wire.Errorf(wire.Invalid, "%q is no address of a server", address).
			WithHint("http://HOST:PORT, https://HOST:PORT or unix:///PATH/server.sock"))
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: o.TLS, MaxIdleConnsPerHost: 64,
		IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second, DisableCompression: true}
	if o.Dial == nil && u.Host != "localhost" {
		transport.Proxy = http.ProxyFromEnvironment
	}
	return &Client{base: u, http: &http.Client{Transport: transport}, key: o.Key}, nil
}

// longestSocket is the longest path that a socket's address takes.
const longestSocket = 107

// dialUnix connects to a socket, however long its path is.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > longestSocket {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		path = filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path))
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// Close lets the connections go. Nothing changes on the server.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// get asks for what is at a path, and reads it into out, which may be nil.
func (c *Client) get(ctx context.Context, op, path string, query url.Values, out any) error {
	return c.call(ctx, op, "", http.MethodGet, path, query, nil, out)
}

// call sends a request with in as its JSON body, if it isn't nil, and reads the
// answer into out, if that isn't nil.
func (c *Client) call(ctx context.Context, op, id, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	header := http.Header{}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return failure(op, id, wire.Errorf(wire.Invalid, "%w", err))
		}
		body = bytes.NewReader(b)
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.send(ctx, op, id, method, path, query, body, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection is used again
		return failure(op, id, ctxOr(ctx, err))
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return failure(op, id, ctxOr(ctx, wire.Errorf(wire.Unavailable, "reading the server's answer: %w", err)))
	}
	return nil
}

// send sends a request and returns the answer, whose body its caller closes,
// if it is a success.
func (c *Client) send(ctx context.Context, op, id, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	resp, err := c.exchange(ctx, op, id, method, path, query, body, header)
	if err != nil || resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
		return resp, err
	}
	defer resp.Body.Close()
	return nil, answerError(op, id, resp)
}

// exchange is send that returns any answer.
func (c *Client) exchange(ctx context.Context, op, id, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url(path, query), body)
	if err != nil {
		return nil, failure(op, id, wire.Errorf(wire.Invalid, "%w", err))
	}
	for k, v := range header {
		req.Header[k] = v
	}
	c.sign(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, failure(op, id, ctxOr(ctx, c.unreachable(err)))
	}
	return resp, nil
}

func (c *Client) url(path string, query url.Values) string {
	u := c.base.String() + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}

// sign says who asks.
func (c *Client) sign(h http.Header) {
	if c.key != "" {
		h.Set("Authorization", "Bearer "+c.key)
	}
}

// unreachable is why a request got no answer.
func (c *Client) unreachable(err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // without the URL: who reads it knows where they are
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return wire.Errorf(wire.Unavailable, "the server at %s can't be trusted: %w", c.base.Host, err).
			WithHint("give its certificate authority with --tls-ca, or its fingerprint with --tls-fingerprint")
	}
	return wire.Errorf(wire.Unavailable, "no answer from the server at %s: %w", c.base.Host, err).WithHint("bandsox serve")
}

// ctxOr is why ctx ended, if it did, else err.
func ctxOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// answerError is the error that an answer tells of.
func answerError(op, id string, resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var body api.Error
	if err != nil || json.Unmarshal(b, &body) != nil || body.Detail.String() == "" {
		body = api.Error{Detail: api.Detail{Text: fmt.Sprintf("the server answered %s", resp.Status)}}
	}
	if body.Code == "" {
		body.Code = wire.CodeOfStatus(resp.StatusCode)
	}
	return bodyError(op, id, body)
}

func bodyError(op, id string, body api.Error) error {
	if body.Op != "" {
		op, id = body.Op, body.ID
	}
	text := body.Message
	if text == "" {
		text = body.Detail.String()
	}
	return &bandsox.Error{Code: body.Code, Op: op, ID: id, Err: errors.New(text), Hint: body.Hint}
}

// failure is an error of our own as the library would have it.
func failure(op, id string, err error) error {
	if err == nil {
		return nil
	}
	var done *bandsox.Error
	if errors.As(err, &done) {
		return err
	}
	e := &bandsox.Error{Code: wire.CodeOf(err), Op: op, ID: id, Err: err}
	var low *wire.Error
	switch {
	case errors.As(err, &low):
		e.Hint = low.Hint
	case errors.Is(err, context.DeadlineExceeded):
		e.Code = wire.Timeout
	case errors.Is(err, context.Canceled):
		e.Code = wire.Unavailable
	}
	return e
}

func isNotFound(err error) bool { return errors.Is(err, bandsox.ErrNotFound) }
