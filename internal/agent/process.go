package agent

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/bandsox/bandsox/internal/wire"
)

// Process is an attachment to a process of the guest. Its input and its output
// may be used by a goroutine each; the other methods by any.
type Process struct {
	c       *Client
	ctx     context.Context
	release func() bool
	st      *wire.Stream
	started wire.Started
	offset  atomic.Int64
	exit    *wire.Exit // by whoever receives
}

// Start starts a process and attaches to it. ctx is for the attachment, not
// just the call: when it ends the process is detached from, which kills it if
// r.KillOnDetach is set.
func (c *Client) Start(ctx context.Context, r wire.StartRequest) (*Process, error) {
	return c.attach(ctx, wire.Request{Op: wire.OpStart, Start: &r})
}

// Attach joins a process's output at an offset, and its input. When ctx ends
// the process is detached from.
func (c *Client) Attach(ctx context.Context, r wire.AttachRequest) (*Process, error) {
	return c.attach(ctx, wire.Request{Op: wire.OpAttach, Attach: &r})
}

func (c *Client) attach(ctx context.Context, r wire.Request) (*Process, error) {
	st, err := c.mux.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	started, err := expect(ctx, st, string(r.Op), func(c *wire.Control) *wire.Started { return c.Started })
	if err != nil {
		st.Close()
		return nil, err
	}
	if started.Offset < 0 || r.Attach != nil && started.Process != r.Attach.Process || r.Start != nil && r.Start.ID != "" && started.Process != r.Start.ID {
		st.Close()
		return nil, wire.Errorf(wire.Internal, "doing %s in the guest: it answers for another process or a bad offset", r.Op)
	}
	p := &Process{c: c, ctx: ctx, st: st, started: *started}
	p.offset.Store(started.Offset)
	p.release = context.AfterFunc(ctx, func() {
		st.Reset(wire.Errorf(wire.Unavailable, "running a process in the guest: %v", context.Cause(ctx)))
	})
	return p, nil
}

// Started says which process it is and where its output begins.
func (p *Process) Started() wire.Started { return p.started }

// Offset is that of the next byte that Recv returns: where to attach again.
func (p *Process) Offset() int64 { return p.offset.Load() }

// Write writes to the process's input. It waits while the process doesn't read.
func (p *Process) Write(b []byte) (int, error) {
	if err := p.st.Send(wire.KindData, b); err != nil {
		return 0, p.because(err)
	}
	return len(b), nil
}

// CloseStdin ends the process's input. On a terminal it is what Ctrl-D is.
func (p *Process) CloseStdin() error { return p.because(p.st.CloseSend()) }

// Signal signals the process's group, or all that it started. It travels
// beside the input, so that one full of unread data can't hold it up.
func (p *Process) Signal(sig int, all bool) error {
	return p.c.Signal(p.ctx, wire.SignalRequest{Process: p.started.Process, Signal: sig, All: all})
}

// Resize sets the size of the process's terminal.
func (p *Process) Resize(size wire.Size) error {
	return p.because(p.st.SendControl(wire.Control{Resize: &size}))
}

// Recv returns the next output, valid until the next call. After the last it
// returns io.EOF, and Exit is known; any other error means that how the
// process ended, if it did, is not.
func (p *Process) Recv() (wire.Kind, []byte, error) {
	if p.exit != nil {
		return 0, nil, io.EOF
	}
	kind, b, err := p.st.Recv()
	switch {
	case err == io.EOF:
		return 0, nil, broken("the process's end")
	case err != nil:
		return 0, nil, p.because(err)
	case kind != wire.KindControl:
		p.offset.Add(int64(len(b)))
		return kind, b, nil
	}
	msg, err := wire.ParseControl(b)
	switch {
	case err != nil:
		return 0, nil, err
	case msg.Error != nil:
		return 0, nil, msg.Error
	case msg.Exit == nil:
		return 0, nil, wire.Errorf(wire.Internal, "waiting for the process's output: the guest sent something else")
	}
	p.exit = msg.Exit
	return 0, nil, io.EOF
}

// Exit is how the process ended, once Recv has returned io.EOF.
func (p *Process) Exit() (wire.Exit, bool) {
	if p.exit == nil {
		return wire.Exit{}, false
	}
	return *p.exit, true
}

// Copy copies the output until the process ends, and returns how it did. A nil
// writer discards. A writer's error is returned as it is, and the process goes
// on: close p to detach from it.
func (p *Process) Copy(stdout, stderr io.Writer) (wire.Exit, error) {
	for {
		kind, b, err := p.Recv()
		if err == io.EOF {
			return *p.exit, nil
		}
		if err != nil {
			return wire.Exit{}, err
		}
		w := stdout
		if kind == wire.KindStderr {
			w = stderr
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(b); err != nil {
			return wire.Exit{}, err
		}
	}
}

// Close detaches from the process. One started with KillOnDetach that still
// runs is killed.
func (p *Process) Close() error {
	p.release()
	return p.st.Close()
}

// because is err, or that ctx ended, if that is why.
func (p *Process) because(err error) error {
	if err == nil || p.ctx.Err() == nil {
		return err
	}
	return unavailable("running a process in the guest", context.Cause(p.ctx))
}
