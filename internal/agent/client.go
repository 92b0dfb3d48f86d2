// Package agent is the host's end of the conversation with a guest's agent:
// typed calls over one byte stream. It trusts nothing that the guest says.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Client is one session with one guest's agent. Many goroutines may use it.
// When the connection dies every call returns an error of code unavailable.
type Client struct {
	mux   *wire.Mux
	hello wire.HelloReply
	dials atomic.Int64 // connections that are open
}

const (
	entropyBytes = 64
	minRedial    = 5 * time.Millisecond
	maxRedial    = 200 * time.Millisecond
	// redialAfter is how long one connection is given to bring an answer. A
	// guest that boots slowly loses nothing by another; one that hears nothing,
	// a wake-up lost somewhere between us and it, hears of the new one.
	redialAfter = 15 * time.Second
)

// Connect dials and says hello until the agent answers, ctx ends or dial
// fails: dial itself waits for a guest that is not there yet, so its error
// is final. A connection that breaks before the answer, or brings none for long,
// is dialled again. An agent that answers that its guest can't work makes that
// the error.
func Connect(ctx context.Context, dial func(context.Context) (net.Conn, error)) (*Client, error) {
	for pause := minRedial; ; pause = min(2*pause, maxRedial) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, unavailable("connecting to the guest's agent", err)
		}
		h := wire.Hello{Entropy: make([]byte, entropyBytes)} // the time is the time of saying it
		rand.Read(h.Entropy)
		attempt, cancel := context.WithTimeout(ctx, redialAfter)
		mux, reply, err := wire.Connect(attempt, conn, h)
		silent := attempt.Err() != nil
		cancel()
		switch {
		case err == nil && reply.Error != nil:
			mux.Close()
			return nil, reply.Error
		case err == nil:
			return &Client{mux: mux, hello: reply}, nil
		case ctx.Err() != nil || !silent && wire.CodeOf(err) != wire.Unavailable:
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// unavailable gives err a class if it has none.
func unavailable(doing string, err error) error {
	var e *wire.Error
	if errors.As(err, &e) {
		return err
	}
	code := wire.Unavailable
	if errors.Is(err, context.DeadlineExceeded) {
		code = wire.Timeout
	}
	return wire.Errorf(code, "%s: %w", doing, err)
}

// Hello is what the agent said of itself and its guest.
func (c *Client) Hello() wire.HelloReply { return c.hello }

// Close ends the session. Processes of the guest go on, but those that were
// started with KillOnDetach over it.
func (c *Client) Close() error { return c.mux.Close() }

// Done is closed when the session has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.mux.Done() }

// Err returns nil while the session lasts.
func (c *Client) Err() error { return c.mux.Err() }

// Busy reports whether the guest is in use by this session, a program's or a
// file's stream being open, and since when it is not.
func (c *Client) Busy() (busy bool, since time.Time) { return c.mux.Busy() }

// Ping asks the agent for a sign of life.
func (c *Client) Ping(ctx context.Context) error { return c.mux.Ping(ctx) }

// Identity makes the guest the sandbox that id says.
func (c *Client) Identity(ctx context.Context, id wire.Identity) error {
	_, err := call(ctx, c, wire.Request{Op: wire.OpIdentity, Identity: &id}, pickDone)
	return err
}

// Freeze stops all of the guest's processes until the next Identity.
func (c *Client) Freeze(ctx context.Context, r wire.FreezeRequest) error {
	_, err := call(ctx, c, wire.Request{Op: wire.OpFreeze, Freeze: &r}, pickDone)
	return err
}

// Stats returns the guest's live figures.
func (c *Client) Stats(ctx context.Context) (wire.Stats, error) {
	s, err := call(ctx, c, wire.Request{Op: wire.OpStats}, func(c *wire.Control) *wire.Stats { return c.Stats })
	if err != nil {
		return wire.Stats{}, err
	}
	return *s, nil
}

// Grow waits until the guest sees its disk's device to have size bytes, and
// makes the file system on it as large as that.
func (c *Client) Grow(ctx context.Context, size int64) error {
	_, err := call(ctx, c, wire.Request{Op: wire.OpGrow, Grow: &wire.GrowRequest{Bytes: size}}, pickDone)
	return err
}

// Stat describes a file of the guest, itself and not what a symlink leads to.
func (c *Client) Stat(ctx context.Context, path string) (wire.Stat, error) {
	s, err := call(ctx, c, wire.Request{Op: wire.OpStat, Stat: &wire.StatRequest{Path: path}}, pickStat)
	if err != nil {
		return wire.Stat{}, err
	}
	return *s, nil
}

// Shutdown ends all processes, SIGTERM first if grace is more than 0, and then
// the machine. It returns when all is written to the disk, just before the
// machine goes.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	_, err := call(ctx, c, wire.Request{Op: wire.OpShutdown, Shutdown: &wire.ShutdownRequest{Grace: grace}}, pickDone)
	return err
}

func pickDone(c *wire.Control) *wire.Done { return c.Done }
func pickStat(c *wire.Control) *wire.Stat { return c.Stat }

// call opens a stream that is answered with one message, of which pick takes
// the field that it must have.
func call[T any](ctx context.Context, c *Client, r wire.Request, pick func(*wire.Control) *T) (*T, error) {
	st, err := c.mux.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	st.CloseSend() // fails when the guest has answered and gone already
	return expect(ctx, st, string(r.Op), pick)
}

// expect receives one control message and takes the field it must have.
func expect[T any](ctx context.Context, st *wire.Stream, op string, pick func(*wire.Control) *T) (*T, error) {
	kind, b, err := st.RecvContext(ctx)
	if err == io.EOF {
		return nil, broken(op)
	}
	if err != nil {
		return nil, err
	}
	if kind != wire.KindControl {
		return nil, wire.Errorf(wire.Internal, "waiting for the guest's answer to %s: it sent data", op)
	}
	msg, err := wire.ParseControl(b)
	if err != nil {
		return nil, err
	}
	if msg.Error != nil {
		return nil, msg.Error
	}
	answer := pick(&msg)
	if answer == nil {
		return nil, wire.Errorf(wire.Internal, "waiting for the guest's answer to %s: it sent another", op)
	}
	return answer, nil
}

// broken is what an exchange that ends without its last message means.
func broken(op string) error {
	return wire.Errorf(wire.Unavailable, "waiting for the guest's answer to %s: it ended without one", op)
}
