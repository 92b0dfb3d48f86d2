package client

import (
	"context"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// Python runs code with the sandbox's python3, or python where there is none,
// and waits for it. Its error is as Cmd.Run's.
func (sb *Sandbox) Python(ctx context.Context, code string, o bandsox.PythonOptions) error {
	c := &Cmd{sb: sb, op: "python", Env: o.Env, Dir: o.Dir, User: o.User, Timeout: o.Timeout,
		Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		python: &api.PythonStart{Code: code, Args: o.Args, Filename: o.Filename, Packages: o.Packages}}
	return c.Run(ctx)
}

// PythonCapture is Python that keeps the output, up to 64 MiB of it, and
// returns what went wrong, if anything, as part of its result.
func (sb *Sandbox) PythonCapture(ctx context.Context, code string, o bandsox.PythonOptions) bandsox.PythonResult {
	return o.Capture(func(o bandsox.PythonOptions) error { return sb.Python(ctx, code, o) })
}
