package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const dialTimeout = 10 * time.Second

// newTransport makes the HTTP transport for one registry host.
func newTransport(o Options, insecure bool) (http.RoundTripper, error) {
	tlsConfig := &tls.Config{InsecureSkipVerify: insecure}
	if len(o.CAFiles) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, path := range o.CAFiles {
			pem, err := os.ReadFile(path)
			if err != nil {
				return nil, fileError("reading CA file", path, err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, wire.Errorf(wire.Invalid, "reading CA file %q: no certificate in PEM form in it", path)
			}
		}
		tlsConfig.RootCAs = pool
	}
	return &patientTransport{
		idle: o.IdleTimeout,
		inner: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: dialTimeout,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: parallelDownloads + 1,
			IdleConnTimeout:     30 * time.Second,
			// Layers are compressed already, and their sizes are checked.
			DisableCompression: true,
		},
	}, nil
}

// patientTransport waits as long as bytes come, however slowly, and gives up
// when none do. It also bounds what a manifest may weigh: ggcr would read
// 100 MiB of one into memory, and parse it.
type patientTransport struct {
	inner *http.Transport
	idle  time.Duration
}

func (t *patientTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stalled := &stalledError{host: req.URL.Host, idle: t.idle}
	timer := time.AfterFunc(t.idle, func() { cancel(stalled) })
	resp, err := t.inner.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if context.Cause(ctx) == stalled {
			err = stalled
		}
		cancel(nil)
		return nil, err
	}
	b := &patientBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, timer: timer, stalled: stalled}
	resp.Body = b
	if strings.Contains(req.URL.Path, "/manifests/") {
		b.left, b.bounded = maxManifest, true
	}
	return resp, nil
}

// CloseIdleConnections ends the connections that are kept for reuse.
func (t *patientTransport) CloseIdleConnections() { t.inner.CloseIdleConnections() }

type patientBody struct {
	io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	stalled *stalledError
	bounded bool
	left    int64
}

func (b *patientBody) Read(p []byte) (int, error) {
	// The clock runs only while we wait: a slow reader is no fault of the
	// registry.
	b.timer.Reset(b.stalled.idle)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF && context.Cause(b.ctx) == b.stalled {
		err = b.stalled
	}
	if b.left -= int64(n); b.bounded && b.left < 0 {
		return 0, errManifestSize
	}
	return n, err
}

func (b *patientBody) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

type stalledError struct {
	host string
	idle time.Duration
}

func (e *stalledError) Error() string {
	return fmt.Sprintf("%s sent nothing for %s", e.host, e.idle)
}

// Is lets the callers find it without the pointer.
func (e *stalledError) Is(target error) bool {
	_, ok := target.(*stalledError)
	return ok
}

// errManifestSize is what a bomb in place of a manifest meets.
var errManifestSize = wire.Errorf(wire.Invalid, "reading a manifest: more than the %s that are allowed", inUnits(maxManifest))

// retryable says which errors of a request ggcr's transport may try again.
// A host that can't be reached or has gone silent is reported at once: a
// person is waiting for the answer.
func retryable(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, &stalledError{}) {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isTemporary(err)
}

func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
