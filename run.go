package bandsox

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// RunMemMiB is the memory of a sandbox made by Run: it runs what people bring.
const RunMemMiB = 512

// RunOptions says what Run shall create and run. Prepare, where set, is given
// the command before it starts, to set its streams, terminal, user and so on.
type RunOptions struct {
	CreateOptions
	Args       []string // default: the image's own command
	Entrypoint []string // in place of the image's, whose command is then not used either; empty and not nil: none
	Keep       bool     // leave the sandbox running afterwards
	Prepare    func(*Cmd)
}

// Run creates a sandbox, runs one program in it and throws the sandbox away.
// It returns the sandbox's Info as it was while it ran, and Cmd.Run's error.
func (m *Manager) Run(ctx context.Context, o RunOptions) (info Info, err error) {
	if o.MemMiB == 0 {
		o.MemMiB = RunMemMiB
	}
	o.AutoRemove = !o.Keep
	sb, err := m.Create(ctx, o.CreateOptions)
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
	sb.mu.Lock()
	info = sb.info
	sb.mu.Unlock()
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
	cmd.makeDir = true // as docker run does: the sandbox is new
	err = cmd.Run(ctx)
	if why := sb.haltedWhy(); why != nil && !o.Keep && errors.Is(err, ErrExhausted) {
		err = fail("run", o.Image, wire.Errorf(CodeExhausted, "the host's disk is full").WithHint("free some space and run it again"))
	}
	return info, err
}
