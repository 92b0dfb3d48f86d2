package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

// Cmd is a program to run in a sandbox: bandsox.Cmd, through a server.
type Cmd struct {
	Args []string // the program and its arguments; the program is looked up in the guest

	Env  []string      // KEY=value, over the sandbox's and the image's
	Dir  string        // absolute; default: the image's working directory, else /
	User string        // name, uid, name:group or uid:gid; default: the image's user, else root
	TTY  *bandsox.Size // run it on a terminal of this size; its errors then come on Stdout

	Stdin          io.Reader // nil: /dev/null
	Stdout, Stderr io.Writer // nil: discarded

	// Detach leaves the program running on its own: Start returns once it runs,
	// and neither the end of its ctx nor that of this client ends it. Stdin,
	// Stdout and Stderr must be nil: Process finds it again.
	Detach    bool
	OpenStdin bool // with Detach: its input stays open for those who attach

	// Timeout ends the program and all it started. Wait then returns an
	// ExitError whose Timeout is set. 0: none.
	Timeout time.Duration

	sb     *Sandbox
	shell  string
	python *api.PythonStart
	op     string

	mu      sync.Mutex
	started bool
	id      string
	pid     int
	done    chan struct{}
	err     error
}

// Command returns a Cmd that runs the named program with the given arguments.
func (sb *Sandbox) Command(name string, arg ...string) *Cmd {
	return &Cmd{sb: sb, op: "exec", Args: append([]string{name}, arg...)}
}

// Shell returns a Cmd that runs script with the guest's /bin/sh.
func (sb *Sandbox) Shell(script string) *Cmd {
	return &Cmd{sb: sb, op: "exec", shell: script}
}

func (c *Cmd) program() api.Program {
	p := api.Program{Command: c.shell, Env: c.Env, Dir: c.Dir, User: c.User}
	if c.shell == "" {
		p.Args = c.Args
	}
	return p
}

// Start starts the program and returns when it runs. Cancelling ctx later
// kills the program and all it started.
func (c *Cmd) Start(ctx context.Context) error {
	k, err := c.start(ctx)
	if k != nil {
		go c.copy(ctx, k)
	}
	return err
}

// start starts the program and returns what carries it, nil if that goes on by itself.
func (c *Cmd) start(ctx context.Context) (link, error) {
	c.mu.Lock()
	again := c.started
	c.mu.Unlock()
	switch {
	case again:
		return nil, invalid(c.op, c.sb.id, "already started")
	case c.Detach && (c.Stdin != nil || c.Stdout != nil || c.Stderr != nil):
		return nil, invalid(c.op, c.sb.id, "Detach goes without Stdin, Stdout and Stderr: attach to the process instead")
	case c.shell == "" && c.python == nil && (len(c.Args) == 0 || c.Args[0] == ""):
		return nil, invalid(c.op, c.sb.id, "starting a process: no command is given")
	case c.Detach:
		return nil, c.detach(ctx)
	}
	k, err := c.link(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, k.end) // while it doesn't run yet
	var f frame
	if c.python == nil {
		f, err = k.next(writers(nil, nil))
	}
	if !stop() || err != nil || c.python == nil && f.Type != "started" {
		k.end()
		if err == nil {
			err = k.broke(io.ErrUnexpectedEOF)
		}
		return nil, failure(c.op, c.sb.id, ctxOr(ctx, err))
	}
	c.mu.Lock()
	c.started, c.id, c.pid, c.done = true, f.Process, f.PID, make(chan struct{})
	c.mu.Unlock()
	if k, ok := k.(*socket); ok && c.Stdin != nil {
		go k.feed(c.Stdin)
	}
	return k, nil
}

// link asks for the program, by a request if that can carry it, else by a
// WebSocket, which takes a connection of its own.
func (c *Cmd) link(ctx context.Context) (link, error) {
	stdin, timeout := c.Stdin != nil || c.OpenStdin, api.SecondsOf(c.Timeout)
	if !stdin && c.TTY == nil && c.python == nil {
		return c.sb.ask(ctx, c.op, api.Exec{Program: c.program(), Timeout: &timeout})
	}
	k, err := c.sb.open(ctx, c.op, vmPath(c.sb.id, "exec-stream"), nil)
	if err != nil {
		return nil, err
	}
	err = k.send(ctx, api.ExecStart{Program: c.program(), Timeout: api.JSON(timeout), TTY: c.TTY, Stdin: stdin, Binary: true, Python: c.python})
	if err != nil {
		k.end()
		return nil, failure(c.op, c.sb.id, ctxOr(ctx, err))
	}
	return k, nil
}

// killTime is how long a program that is killed has to say so.
const killTime = 2 * time.Second

// copy carries the output until the program ends.
func (c *Cmd) copy(ctx context.Context, k link) {
	defer close(c.done)
	defer k.end()
	stop := context.AfterFunc(ctx, func() {
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
		defer cancel()
		if c.python != nil || k.kill(kill) != nil {
			k.end() // which kills, too
			return
		}
		select {
		case <-c.done:
		case <-kill.Done():
			k.end()
		}
	})
	defer stop()
	f, err := k.next(writers(c.Stdout, c.Stderr))
	if err == nil {
		if f.Type != "exit" {
			err = k.broke(io.ErrUnexpectedEOF)
		} else if err = f.Ended.Err(); err == nil {
			return
		}
	}
	var exit *bandsox.ExitError
	if cause := context.Cause(ctx); cause != nil && (!errors.As(err, &exit) || exit.Signal == syscall.SIGKILL) {
		err = cause
	}
	if !errors.As(err, &exit) {
		err = failure(c.op, c.sb.id, err)
	}
	c.err = err
}

// detach starts a program that goes on by itself.
func (c *Cmd) detach(ctx context.Context) error {
	var made api.StartedProcess
	err := c.sb.call(ctx, c.op, http.MethodPost, "processes", nil,
		api.StartProcess{Program: c.program(), TTY: c.TTY, Stdin: c.OpenStdin, Timeout: api.SecondsOf(c.Timeout)}, &made)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started, c.id, c.pid = true, made.ID, made.PID
	return nil
}

// Wait waits for the program to end and its output to be copied. It returns an
// *ExitError unless the program succeeded, and an ErrUnavailable error when the
// sandbox broke down first, or the connection did. When ctx ends first the
// program goes on.
func (c *Cmd) Wait(ctx context.Context) error {
	c.mu.Lock()
	started, done := c.started, c.done
	c.mu.Unlock()
	switch {
	case !started:
		return invalid(c.op, c.sb.id, "not started")
	case c.Detach:
		return c.Process().Wait(ctx)
	}
	select {
	case <-done:
		return c.err
	case <-ctx.Done():
		return failure(c.op, c.sb.id, context.Cause(ctx))
	}
}

// Run starts the program and waits for it. When ctx ends, the program is killed.
func (c *Cmd) Run(ctx context.Context) error {
	k, err := c.start(ctx)
	if err != nil {
		return err
	}
	if k != nil { // Nothing writes to Stdout once Run has returned.
		c.copy(ctx, k)
	}
	return c.Wait(context.WithoutCancel(ctx))
}

// Output runs the program and returns what it wrote to stdout.
func (c *Cmd) Output(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil {
		return nil, invalid(c.op, c.sb.id, "Stdout is set already")
	}
	var out bytes.Buffer
	c.Stdout = &out
	var end *tail
	if c.Stderr == nil {
		end = &tail{}
		c.Stderr = end
	}
	err := c.Run(ctx)
	if exit := (*bandsox.ExitError)(nil); errors.As(err, &exit) && end != nil {
		exit.Stderr = end.b
	}
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns what it wrote to stdout and
// stderr, in the order in which the guest read it.
func (c *Cmd) CombinedOutput(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, invalid(c.op, c.sb.id, "Stdout or Stderr is set already")
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run(ctx)
	return out.Bytes(), err
}

// tail keeps the last of what is written to it.
type tail struct{ b []byte }

const maxTail = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// Signal sends a signal to the program's process group: on a terminal, to the
// one in its foreground.
func (c *Cmd) Signal(sig syscall.Signal) error {
	return c.do(func(p *Process) error { return p.Signal(context.Background(), sig) })
}

// Kill ends the program and all it started, whatever group or session it is in.
func (c *Cmd) Kill() error {
	return c.do(func(p *Process) error { return p.Kill(context.Background()) })
}

// Resize tells the program's terminal its new size.
func (c *Cmd) Resize(size bandsox.Size) error {
	return c.do(func(p *Process) error { return p.Resize(context.Background(), size) })
}

// do acts on the process beside the socket: input that it doesn't read can't
// hold that up.
func (c *Cmd) do(f func(*Process) error) error {
	p := c.Process()
	if p == nil {
		return invalid(c.op, c.sb.id, "not started")
	}
	return f(p)
}

// ProcessID is the process's id in the sandbox, "" before Start.
func (c *Cmd) ProcessID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// PID is the process's number in the sandbox, 0 before Start.
func (c *Cmd) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Process is the process that was started, to use apart from this Cmd: nil
// before Start.
func (c *Cmd) Process() *Process {
	if id := c.ProcessID(); id != "" {
		return &Process{sb: c.sb, id: id}
	}
	return nil
}
