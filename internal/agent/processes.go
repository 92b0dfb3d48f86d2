package agent

import (
	"context"

	"github.com/bandsox/bandsox/internal/wire"
)

// maxListed is more processes than an agent tells of.
const maxListed = 4096

// Processes lists the guest's processes that the agent started, oldest first:
// those that run, and the latest that ended.
func (c *Client) Processes(ctx context.Context) ([]wire.Process, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpProcesses})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	st.CloseSend() // fails when the guest has answered and gone already
	list := []wire.Process{}
	for {
		msg, err := expect(ctx, st, string(wire.OpProcesses), pickList)
		if err != nil {
			return nil, err
		}
		if msg.Done != nil {
			return list, nil
		}
		if list = append(list, msg.Processes.Processes...); len(list) > maxListed {
			return nil, tooMany()
		}
	}
}

// Follow hands listed every process that Processes lists, and then ended each
// that ends, until ctx or the session ends, which is its error. Complete says
// that the whole list came. One that ends meanwhile may be handed to both.
func (c *Client) Follow(ctx context.Context, listed, ended func(wire.Process)) (complete bool, err error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpFollow})
	if err != nil {
		return false, err
	}
	defer st.Close()
	for n := 0; ; {
		msg, err := expect(ctx, st, string(wire.OpFollow), pickList)
		if err != nil {
			return complete, err
		}
		if msg.Done != nil {
			complete = true
			continue
		}
		if n += len(msg.Processes.Processes); !complete && n > maxListed {
			return false, tooMany()
		}
		for _, p := range msg.Processes.Processes {
			if !complete {
				listed(p)
			} else if p.Exit != nil {
				ended(p)
			}
		}
	}
}

// pickList takes a part of a list of processes, or its end.
func pickList(c *wire.Control) *wire.Control {
	if c.Processes == nil && c.Done == nil {
		return nil
	}
	return c
}

func tooMany() error {
	return wire.Errorf(wire.Internal, "listing processes: the guest tells of more than %d", maxListed)
}

// Signal signals a process without attaching to it.
func (c *Client) Signal(ctx context.Context, r wire.SignalRequest) error {
	_, err := call(ctx, c, wire.Request{Op: wire.OpSignal, Signal: &r}, pickDone)
	return err
}

// Resize sets the size of a process's terminal without attaching to it.
func (c *Client) Resize(ctx context.Context, process string, size wire.Size) error {
	_, err := call(ctx, c, wire.Request{Op: wire.OpResize, Process: &wire.ProcessRequest{Process: process, Size: size}}, pickDone)
	return err
}

// Wait waits for a process's end without attaching to it. One that ended long
// ago is forgotten.
func (c *Client) Wait(ctx context.Context, process string) (wire.Exit, error) {
	e, err := call(ctx, c, wire.Request{Op: wire.OpWait, Process: &wire.ProcessRequest{Process: process}},
		func(c *wire.Control) *wire.Exit { return c.Exit })
	if err != nil {
		return wire.Exit{}, err
	}
	return *e, nil
}

// Input writes b to a process's input without attaching to it, and then, if end
// is set, ends the input. It returns when the process has it all, or will as
// soon as it reads.
func (c *Client) Input(ctx context.Context, process string, b []byte, end bool) error {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpInput, Process: &wire.ProcessRequest{Process: process, Close: end}})
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.SendContext(ctx, wire.KindData, b); err == nil {
		st.CloseSend()
	} else if ctx.Err() != nil {
		return err
	}
	_, err = expect(ctx, st, string(wire.OpInput), pickDone) // if it wants no more it says why
	return err
}
