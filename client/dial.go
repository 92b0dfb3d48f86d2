package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// Dial connects to a server in the sandbox that listens on a TCP port. ctx is
// for the connecting only. The connection has a CloseWrite; a deadline that
// passes while it waits ends it. Where nothing listens the error is
// bandsox.ErrUnavailable, with syscall.ECONNREFUSED in it.
func (sb *Sandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	h := http.Header{}
	sb.c.sign(h)
	at := sb.c.url("/api/vms/"+url.PathEscape(sb.id)+"/dial", url.Values{"port": {strconv.Itoa(port)}})
	ws, resp, err := websocket.Dial(ctx, at, &websocket.DialOptions{HTTPClient: sb.c.http, HTTPHeader: h, CompressionMode: websocket.CompressionDisabled})
	switch {
	case err == nil:
	case resp != nil && resp.StatusCode >= 300:
		err := answerError("dial", sb.id, resp)
		var e *bandsox.Error
		if resp.StatusCode == http.StatusBadGateway && errors.As(err, &e) {
			e.Err = &wire.Error{Code: e.Code, Message: e.Err.Error(), Err: syscall.ECONNREFUSED}
		}
		return nil, err
	default:
		return nil, failure("dial", sb.id, ctxOr(ctx, sb.c.unreachable(err)))
	}
	ws.SetReadLimit(-1) // frames are read in pieces
	return &conn{ws: ws, port: port, reading: newLimit(), writing: newLimit()}, nil
}

// conn is a connection to a port of a sandbox: the frames of a WebSocket.
type conn struct {
	ws               *websocket.Conn
	port             int
	reading, writing *limit
	closed           atomic.Bool

	rmu   sync.Mutex
	frame io.Reader
	rerr  error

	wmu    sync.Mutex
	ending bool
}

// Read reads what the server sent. io.EOF is the good end of it.
func (c *conn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	for c.rerr == nil {
		if c.frame == nil {
			kind, r, err := c.ws.Reader(c.reading.ctx)
			switch {
			case err != nil:
				c.rerr = c.why(err, c.reading)
				continue
			case kind == websocket.MessageText:
				_, _ = io.Copy(io.Discard, r)
				c.rerr = io.EOF
				// Somebody must read on, for the other side's pings and its close.
				go func() { _, _, _ = c.ws.Reader(context.Background()) }()
				continue
			}
			c.frame = r
		}
		n, err := c.frame.Read(p)
		switch {
		case err == io.EOF:
			c.frame = nil
		case err != nil:
			c.rerr = c.why(err, c.reading)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, c.rerr
}

// Write sends p, and waits while the server doesn't read.
func (c *conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ending {
		return 0, syscall.EPIPE
	}
	if err := c.ws.Write(c.writing.ctx, websocket.MessageBinary, p); err != nil {
		return 0, c.why(err, c.writing)
	}
	return len(p), nil
}

// CloseWrite ends what is sent; the server may go on.
func (c *conn) CloseWrite() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ending {
		return nil
	}
	c.ending = true
	if err := c.ws.Write(c.writing.ctx, websocket.MessageText, api.JSON(api.DialEnd{Type: "end"})); err != nil {
		return c.why(err, c.writing)
	}
	return nil
}

func (c *conn) why(err error, l *limit) error {
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case l.passed.Load():
		return os.ErrDeadlineExceeded
	}
	var closed websocket.CloseError
	if errors.As(err, &closed) && closed.Reason != "" {
		err = errors.New(closed.Reason)
	}
	return wire.Errorf(wire.Unavailable, "the connection to port %d broke: %w", c.port, err)
}

// Close closes the connection. What was written before still arrives.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.reading.set(time.Time{})
	c.writing.set(time.Time{})
	defer c.reading.cancel()
	defer c.writing.cancel()
	if c.wmu.TryLock() {
		defer c.wmu.Unlock()
		if err := c.ws.Close(websocket.StatusNormalClosure, ""); err == nil {
			return nil
		}
	}
	_ = c.ws.CloseNow()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (c *conn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.port} }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}
func (c *conn) SetReadDeadline(t time.Time) error  { c.reading.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.writing.set(t); return nil }

// limit is a context that a deadline ends.
type limit struct {
	ctx    context.Context
	cancel context.CancelFunc
	passed atomic.Bool

	mu    sync.Mutex
	timer *time.Timer
}

func newLimit() *limit {
	l := &limit{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *limit) set(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if !t.IsZero() {
		l.timer = time.AfterFunc(time.Until(t), func() {
			l.passed.Store(true)
			l.cancel()
		})
	}
}
