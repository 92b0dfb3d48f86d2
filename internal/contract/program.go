package contract

import (
	"context"
	"io"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// Program is what a Cmd is made of.
type Program struct {
	Args              []string
	Shell             string
	Env               []string
	Dir, User         string
	TTY               *bandsox.Size
	Stdin             io.Reader
	Stdout, Stderr    io.Writer
	Detach, OpenStdin bool
	Timeout           time.Duration
}

// Cmd is a program to run.
type Cmd interface {
	Start(ctx context.Context) error
	Run(ctx context.Context) error
	Wait(ctx context.Context) error
	Output(ctx context.Context) ([]byte, error)
	CombinedOutput(ctx context.Context) ([]byte, error)
	Signal(sig syscall.Signal) error
	Kill() error
	Resize(size bandsox.Size) error
	ProcessID() string
	PID() int
}

// Process is one that was started.
type Process interface {
	ID() string
	Info(ctx context.Context) (bandsox.ProcessInfo, error)
	Wait(ctx context.Context) error
	Signal(ctx context.Context, sig syscall.Signal) error
	Kill(ctx context.Context) error
	Resize(ctx context.Context, size bandsox.Size) error
	Write(ctx context.Context, b []byte) error
	CloseStdin(ctx context.Context) error
	Join(ctx context.Context, o bandsox.AttachOptions) (Viewer, error)
}

// Viewer is an attachment.
type Viewer interface {
	Start() int64
	Lost() int64
	Offset() int64
	Write(b []byte) (int, error)
	CloseStdin() error
	Signal(sig syscall.Signal) error
	Resize(size bandsox.Size) error
	Wait(ctx context.Context) error
	Detach() error
}

// Programs are the programs of a Box.
type Programs interface {
	Cmd(p Program) Cmd
	Find(ctx context.Context, ref string) (Process, error)
	Processes(ctx context.Context) ([]bandsox.ProcessInfo, error)
	Python(ctx context.Context, code string, o bandsox.PythonOptions) error
	PythonCapture(ctx context.Context, code string, o bandsox.PythonOptions) bandsox.PythonResult
}

func (b nearBox) Cmd(p Program) Cmd {
	c := b.Sandbox.Shell(p.Shell)
	if p.Shell == "" {
		c = b.Sandbox.Command("")
	}
	if len(p.Args) > 0 {
		c = b.Sandbox.Command(p.Args[0], p.Args[1:]...)
	}
	c.Env, c.Dir, c.User, c.TTY, c.Timeout = p.Env, p.Dir, p.User, p.TTY, p.Timeout
	c.Stdin, c.Stdout, c.Stderr, c.Detach, c.OpenStdin = p.Stdin, p.Stdout, p.Stderr, p.Detach, p.OpenStdin
	return c
}

func (b farBox) Cmd(p Program) Cmd {
	c := b.Sandbox.Shell(p.Shell)
	if p.Shell == "" {
		c = b.Sandbox.Command("")
	}
	if len(p.Args) > 0 {
		c = b.Sandbox.Command(p.Args[0], p.Args[1:]...)
	}
	c.Env, c.Dir, c.User, c.TTY, c.Timeout = p.Env, p.Dir, p.User, p.TTY, p.Timeout
	c.Stdin, c.Stdout, c.Stderr, c.Detach, c.OpenStdin = p.Stdin, p.Stdout, p.Stderr, p.Detach, p.OpenStdin
	return c
}

type nearProcess struct{ *bandsox.Process }

type farProcess struct{ *client.Process }

func (b nearBox) Find(ctx context.Context, ref string) (Process, error) {
	p, err := b.Sandbox.Process(ctx, ref)
	if err != nil {
		return nil, err
	}
	return nearProcess{p}, nil
}

func (b farBox) Find(ctx context.Context, ref string) (Process, error) {
	p, err := b.Sandbox.Process(ctx, ref)
	if err != nil {
		return nil, err
	}
	return farProcess{p}, nil
}

func (p nearProcess) Join(ctx context.Context, o bandsox.AttachOptions) (Viewer, error) {
	a, err := p.Attach(ctx, o)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (p farProcess) Join(ctx context.Context, o bandsox.AttachOptions) (Viewer, error) {
	a, err := p.Attach(ctx, o)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Runner runs a program in a sandbox of its own.
type Runner interface {
	RunProgram(ctx context.Context, o bandsox.CreateOptions, keep bool, stdout io.Writer, args ...string) (bandsox.Info, error)
}

func (h near) RunProgram(ctx context.Context, o bandsox.CreateOptions, keep bool, stdout io.Writer, args ...string) (bandsox.Info, error) {
	return h.Run(ctx, bandsox.RunOptions{CreateOptions: o, Args: args, Keep: keep, Prepare: func(c *bandsox.Cmd) { c.Stdout = stdout }})
}

func (h far) RunProgram(ctx context.Context, o bandsox.CreateOptions, keep bool, stdout io.Writer, args ...string) (bandsox.Info, error) {
	return h.Run(ctx, client.RunOptions{CreateOptions: o, Args: args, Keep: keep, Prepare: func(c *client.Cmd) { c.Stdout = stdout }})
}
