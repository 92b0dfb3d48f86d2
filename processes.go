package bandsox

import (
	"context"
	"strings"
	"syscall"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// ProcessInfo is what is known of a process of a sandbox: what was started,
// how much it wrote and how much of that is still kept, and how it ended.
type ProcessInfo = wire.Process

// ProcessExit is how a process ended.
type ProcessExit = wire.Exit

// Process is one process of a sandbox, whoever started it: this manager, or
// one that is dead. It goes on for as long as the sandbox runs, whether or not
// anybody is attached to it, and how it ended is known for a while afterwards.
type Process struct {
	sb *Sandbox
	id string
}

// Processes lists the processes that were started in the sandbox, oldest
// first: all that run, up to 512, and the last 256 that ended.
func (sb *Sandbox) Processes(ctx context.Context) ([]ProcessInfo, error) {
	client, err := sb.peek(ctx)
	if err != nil {
		return nil, fail("processes", sb.id, err)
	}
	list, err := client.Processes(ctx)
	return list, fail("processes", sb.id, err)
}

// Process finds a process by its id, or by a beginning of it that no other
// one's has.
func (sb *Sandbox) Process(ctx context.Context, ref string) (*Process, error) {
	list, err := sb.Processes(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, p := range list {
		if p.ID == ref {
			return &Process{sb: sb, id: p.ID}, nil
		}
		if ref != "" && strings.HasPrefix(p.ID, ref) {
			found = append(found, p.ID)
		}
	}
	switch len(found) {
	case 1:
		return &Process{sb: sb, id: found[0]}, nil
	case 0:
		return nil, fail("process", sb.id, wire.Errorf(CodeNotFound, "there is no process %q: those that ended long ago are forgotten", ref).
			WithHint("bandsox top %s", sb.id))
	}
	return nil, fail("process", sb.id, wire.Errorf(CodeConflict, "the ids of %d processes begin with %q", len(found), ref).
		WithHint("bandsox top %s", sb.id))
}

// ID is the process's id.
func (p *Process) ID() string { return p.id }

// Info returns what is known of the process now.
func (p *Process) Info(ctx context.Context) (ProcessInfo, error) {
	list, err := p.sb.Processes(ctx)
	if err != nil {
		return ProcessInfo{}, err
	}
	for _, i := range list {
		if i.ID == p.id {
			return i, nil
		}
	}
	return ProcessInfo{}, fail("process", p.sb.id, wire.Errorf(CodeNotFound, "process %q is forgotten", p.id))
}

// do calls f with the sandbox's agent.
func (p *Process) do(ctx context.Context, op string, f func(*agent.Client) error) error {
	client, err := p.sb.running(ctx)
	if err != nil {
		return fail(op, p.sb.id, err)
	}
	machine := p.sb.current()
	if err = f(client); err != nil && ctx.Err() == nil && client.Err() != nil {
		err = p.sb.brokeDown(machine, err)
	}
	return fail(op, p.sb.id, err)
}

// Wait waits for the process to end, if it has not yet. It returns an
// *ExitError unless it succeeded.
func (p *Process) Wait(ctx context.Context) error {
	var exit wire.Exit
	err := p.do(ctx, "wait", func(c *agent.Client) (err error) {
		exit, err = c.Wait(ctx, p.id)
		return err
	})
	if err != nil {
		return err
	}
	return p.sb.exitError(exit)
}

// Signal sends a signal to the process's group: on a terminal, to the one in
// its foreground.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.do(ctx, "signal", func(c *agent.Client) error {
		return c.Signal(ctx, wire.SignalRequest{Process: p.id, Signal: int(sig)})
	})
}

// Kill ends the process and all it started, whatever group or session it is in.
func (p *Process) Kill(ctx context.Context) error {
	return p.do(ctx, "kill", func(c *agent.Client) error {
		return c.Signal(ctx, wire.SignalRequest{Process: p.id, Signal: int(syscall.SIGKILL), All: true})
	})
}

// Resize tells the process's terminal its new size.
func (p *Process) Resize(ctx context.Context, size Size) error {
	return p.do(ctx, "resize", func(c *agent.Client) error { return c.Resize(ctx, p.id, size) })
}

// Write writes b to the process's input. It waits while the process doesn't
// read.
func (p *Process) Write(ctx context.Context, b []byte) error {
	return p.do(ctx, "write", func(c *agent.Client) error { return c.Input(ctx, p.id, b, false) })
}

// CloseStdin ends the process's input. On a terminal it is what Ctrl-D is.
func (p *Process) CloseStdin(ctx context.Context) error {
	return p.do(ctx, "write", func(c *agent.Client) error { return c.Input(ctx, p.id, nil, true) })
}
