package bandsox

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
)

// Dial connects to a server in the sandbox that listens on a TCP port, on
// 127.0.0.1, ::1 or every address. It goes through the agent, and so works
// without a network. ctx is for the connecting only. A connection that is open is
// a use of the sandbox.
//
// The connection has a CloseWrite, as a net.TCPConn has. Where nothing listens
// the error is ErrUnavailable, with syscall.ECONNREFUSED in it.
func (sb *Sandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return nil, fail("dial", sb.id, err)
	}
	machine := sb.current()
	conn, err := client.Dial(ctx, wire.DialRequest{Port: port})
	if err == nil {
		return conn, nil
	}
	var refused *wire.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && errors.As(err, &refused):
		err = refused.WithHint("start a server on that port of the sandbox, and leave it running; bandsox top %s shows what runs", sb.id)
	case ctx.Err() == nil && client.Err() != nil:
		err = sb.brokeDown(machine, err)
	}
	return nil, fail("dial", sb.id, err)
}
