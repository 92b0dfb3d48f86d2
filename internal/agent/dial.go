package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// maxDials leaves some of the session's streams for everything else.
const maxDials = wire.MaxStreams * 3 / 4

// Dial connects to a server in the guest, by the guest's own loopback. ctx is
// for the connecting only. Where nothing listens the error is unavailable, and
// syscall.ECONNREFUSED is in it.
//
// What it returns can be half closed: it has a CloseWrite.
func (c *Client) Dial(ctx context.Context, r wire.DialRequest) (net.Conn, error) {
	if r.Port < 1 || r.Port > 65535 {
		return nil, wire.Errorf(wire.Invalid, "port %d: want 1 to 65535", r.Port)
	}
	if c.dials.Add(1) > maxDials {
		c.dials.Add(-1)
		return nil, wire.Errorf(wire.Exhausted, "%d connections to the guest are open, the most there may be", maxDials)
	}
	st, err := c.dial(ctx, r)
	if err != nil {
		c.dials.Add(-1)
		return nil, err
	}
	return &Conn{st: st, port: r.Port, freed: func() { c.dials.Add(-1) }, reading: newDeadline(), writing: newDeadline()}, nil
}

func (c *Client) dial(ctx context.Context, r wire.DialRequest) (*wire.Stream, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpDial, Dial: &r})
	if err != nil {
		return nil, err
	}
	if _, err = expect(ctx, st, string(wire.OpDial), pickDone); err == nil {
		return st, nil
	}
	st.Close()
	var said *wire.Error
	if errors.As(err, &said) && said.Code == wire.Unavailable && c.Err() == nil && ctx.Err() == nil {
		said.Err = syscall.ECONNREFUSED // the guest's own answer
	}
	return nil, err
}

// Conn is a connection to a server in a guest.
type Conn struct {
	st               *wire.Stream
	port             int
	freed            func()
	reading, writing *deadline
	once             sync.Once

	rmu  sync.Mutex
	rest []byte // of the last message: valid until the next is received
	rerr error  // how receiving ended

	wmu    sync.Mutex
	werr   error // why sending is over: some of what was to be sent may be lost
	ending bool  // CloseWrite was called
}

// Read reads what the server sent. io.EOF is the good end of it.
func (c *Conn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if c.reading.Err() != nil {
		return 0, os.ErrDeadlineExceeded
	}
	for len(c.rest) == 0 && len(p) > 0 {
		if c.rerr != nil {
			return 0, c.rerr
		}
		kind, b, err := c.st.RecvContext(c.reading)
		switch {
		case err == io.EOF:
			c.rerr = err
		case err != nil && c.isClosed():
			c.rerr = net.ErrClosed
		case err != nil && c.reading.Err() != nil:
			return 0, os.ErrDeadlineExceeded // nothing is lost
		case err != nil:
			c.rerr = c.broken("reading from", err)
		case kind != wire.KindData:
			c.rerr = c.broken("reading from", wire.Errorf(wire.Internal, "the guest sent something else than data"))
		default:
			c.rest = b
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write sends p to the server, and waits while it doesn't read. After a deadline
// in the middle of it nothing more can be sent.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	switch {
	case c.isClosed():
		return 0, net.ErrClosed
	case c.werr != nil:
		return 0, c.werr
	case c.ending:
		return 0, syscall.EPIPE
	case c.writing.Err() != nil:
		return 0, os.ErrDeadlineExceeded
	}
	for n < len(p) {
		k := min(len(p)-n, wire.MaxData)
		if err := c.st.SendContext(c.writing, wire.KindData, p[n:n+k]); err != nil {
			switch {
			case c.isClosed():
				c.werr = net.ErrClosed
			case c.writing.Err() != nil:
				c.werr = os.ErrDeadlineExceeded
			default:
				c.werr = c.broken("writing to", err)
			}
			return n, c.werr
		}
		n += k
	}
	return n, nil
}

func (c *Conn) broken(doing string, err error) error {
	return wire.Errorf(wire.CodeOf(err), "%s port %d: %w", doing, c.port, err)
}

// CloseWrite ends what is sent; the server may go on.
func (c *Conn) CloseWrite() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.isClosed() {
		return net.ErrClosed
	}
	if c.werr != nil || c.ending {
		return c.werr
	}
	c.ending = true
	return c.st.CloseSend()
}

// Close closes the connection. What was written before still arrives, followed
// by an end; in the middle of a Write, or after one that failed, the connection
// is reset, so that the server doesn't take a part for the whole.
func (c *Conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		c.reading.close()
		if c.wmu.TryLock() {
			if c.werr == nil && !c.ending {
				c.st.CloseSend()
			}
			c.wmu.Unlock()
		}
		c.writing.close()
		c.st.Close()
		c.freed()
	})
	return err
}

func (c *Conn) isClosed() bool { return c.reading.isClosed() }

// LocalAddr is no real address: the connection has none here.
func (c *Conn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// RemoteAddr is the server's in the guest.
func (c *Conn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.port} }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline has Read give up at t; zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.reading.set(t) }

// SetWriteDeadline has Write give up at t; zero: never.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.writing.set(t) }
