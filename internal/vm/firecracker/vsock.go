package firecracker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// agentPort is where the guest's agent listens.
const agentPort = 1024

const (
	// An attempt that isn't answered soon is made again: some versions leave the
	// first one after a restore hanging, and none says that nobody listens yet.
	// The guest may just be slow, so the next is waited for longer.
	firstAnswer = 250 * time.Millisecond
	lastAnswer  = 4 * time.Second
	minPause    = 2 * time.Millisecond
	maxPause    = 50 * time.Millisecond
)

// Dial connects to the agent's port of the guest, when there is somebody.
func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	pause := minPause
	for patience := firstAnswer; ; {
		began := time.Now()
		conn, err := m.dialOnce(ctx, patience)
		if err == nil {
			return conn, nil
		}
		if time.Since(began) >= patience {
			patience = min(2*patience, lastAnswer)
		}
		select {
		case <-m.released.Done(): // a machine that ends is released too
			<-m.watching
			if gone := m.gone(); gone != nil {
				return nil, fmt.Errorf("dialling the agent: %w", gone)
			}
			return nil, wire.Errorf(wire.Unavailable, "dialling the agent of machine %q: it was released", m.handle.ID)
		case <-ctx.Done():
			code := wire.Unavailable
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				code = wire.Timeout
			}
			return nil, wire.Errorf(code, "dialling the agent of machine %q: %w", m.handle.ID, errors.Join(ctx.Err(), err))
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
}

// dialOnce asks Firecracker for a connection, and waits no longer than patience
// for the guest's answer.
func (m *machine) dialOnce(ctx context.Context, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := m.socks.Dial(ctx, vsockSocket, m.proc.Done())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = shakeHands(conn, agentPort)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return whole{conn}, nil
}

// shakeHands asks for a port of the guest. The answer is read byte by byte: what
// follows it is the guest's.
func shakeHands(conn net.Conn, port int) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return err
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := conn.Read(b); err != nil {
			if len(line) == 0 {
				return errors.Join(errNobody, err)
			}
			return err
		}
		if b[0] == '\n' {
			break
		}
		if line = append(line, b[0]); len(line) > 32 {
			break
		}
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("the answer to CONNECT is %q", line)
	}
	return nil
}

var errNobody = errors.New("nobody listens in the guest")

// whole is a connection that can't be half closed: Firecracker would end the
// other half too, and what the guest has sent would be lost.
type whole struct{ net.Conn }
