package client

import (
	"context"
	"slices"
	"time"

	"github.com/bandsox/bandsox"
)

// RunOptions says what Run shall create and run. Prepare, where set, is given
// the command before it starts, to set its streams, terminal, user and so on.
type RunOptions struct {
	bandsox.CreateOptions
	Args       []string // default: the image's own command
	Entrypoint []string // in place of the image's, whose command is then not used either; empty and not nil: none
	Keep       bool     // leave the sandbox running afterwards
	Prepare    func(*Cmd)
}

// Run creates a sandbox, runs one program in it and throws the sandbox away;
// the server does, if this program dies first. It returns the sandbox's Info as
// it was while it ran, and Cmd.Run's error.
func (c *Client) Run(ctx context.Context, o RunOptions) (info bandsox.Info, err error) {
	if o.MemMiB == 0 {
		o.MemMiB = bandsox.RunMemMiB
	}
	o.AutoRemove = !o.Keep
	sb, err := c.Create(ctx, o.CreateOptions)
	if err != nil {
		return info, err
	}
	if !o.Keep {
		defer func() {
			// The caller's context may be what ended the program.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			if derr := sb.Delete(ctx); err == nil {
				err = derr
			}
		}()
	}
	if info, err = sb.Info(ctx); err != nil {
		return info, err
	}
	args := info.Config.Command(o.Args)
	if o.Entrypoint != nil {
		args = slices.Concat(o.Entrypoint, o.Args)
	}
	if len(args) == 0 {
		return info, invalid("run", o.Image, "the image names no command: give one")
	}
	cmd := sb.Command(args[0], args[1:]...)
	if o.Prepare != nil {
		o.Prepare(cmd)
	}
	if cmd.Dir != "" { // made, as docker run does: the sandbox is new
		if err := sb.Mkdir(ctx, cmd.Dir, bandsox.MkdirOptions{Parents: true}); err != nil {
			return info, err
		}
	}
	return info, cmd.Run(ctx)
}
