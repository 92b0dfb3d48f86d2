package bandsox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// Size of a terminal, in characters.
type Size = wire.Size

// Cmd is a program to run in a sandbox. It is shaped like os/exec's Cmd: set
// its fields, then call Run, Output, or Start and Wait. It can be started once.
type Cmd struct {
	Args []string // the program and its arguments; the program is looked up in the guest

	Env  []string // KEY=value, over the sandbox's and the image's
	Dir  string   // absolute, and there; default: the image's working directory, else /
	User string   // name, uid, name:group or uid:gid; default: the image's user, else root
	TTY  *Size    // run it on a terminal of this size; its errors then come on Stdout

	Stdin          io.Reader // nil: /dev/null
	Stdout, Stderr io.Writer // nil: discarded

	// Detach leaves the program running on its own: Start returns once it runs,
	// and neither the end of its ctx nor that of this manager ends it. Stdin,
	// Stdout and Stderr must be nil: Process finds it again, and attaches to its
	// output from the first byte that is still kept.
	Detach    bool
	OpenStdin bool // with Detach: its input stays open for those who attach

	// Linger, with Detach and TTY, is for a shell: when nobody has been attached
	// to it for this long, or up to twice that, its terminal is hung up. Not while
	// a job that the shell waits for has it. 0: it stays.
	Linger time.Duration

	// Timeout ends the program and all it started. Wait then returns an
	// ExitError whose Timeout is set. 0: none.
	Timeout time.Duration

	sb      *Sandbox
	shell   string
	makeDir bool // Dir is made if it is not there
	mu      sync.Mutex
	proc    *agent.Process
	copyc   chan struct{}
	exit    wire.Exit
	err     error
}

// Command returns a Cmd that runs the named program with the given arguments.
func (sb *Sandbox) Command(name string, arg ...string) *Cmd {
	return &Cmd{sb: sb, Args: append([]string{name}, arg...)}
}

// Shell returns a Cmd that runs script with the guest's /bin/sh.
func (sb *Sandbox) Shell(script string) *Cmd {
	return &Cmd{sb: sb, shell: script}
}

// ExitError is how a program ended that did not succeed.
type ExitError struct {
	Code    int            // 128 + the signal's number when a signal ended it
	Signal  syscall.Signal // 0 unless a signal ended it
	Timeout bool           // Cmd.Timeout ran out
	OOM     bool           // the sandbox's memory did not suffice
	Stderr  []byte         // the end of it, where Output found no Cmd.Stderr
	MemMiB  int            // the sandbox's memory
}

// Is makes errors.Is(err, ErrTimeout) and errors.Is(err, ErrExhausted) work.
func (e *ExitError) Is(target error) bool {
	return e.Timeout && target == ErrTimeout || e.OOM && target == ErrExhausted
}

func (e *ExitError) Error() string {
	switch {
	case e.Timeout:
		return "timed out"
	case e.OOM:
		return fmt.Sprintf("killed for want of memory: the sandbox has %d MiB", e.MemMiB)
	case e.Signal != 0:
		return fmt.Sprintf("ended by signal %d (%v)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Start starts the program and returns when it runs. Cancelling ctx later
// kills the program and all it started.
func (c *Cmd) Start(ctx context.Context) error {
	if c.proc != nil || c.err != nil {
		return invalid("exec", c.sb.id, "already started")
	}
	if err := c.check(); err != nil {
		return err
	}
	client, err := c.sb.running(ctx)
	if err != nil {
		return fail("exec", c.sb.id, err)
	}
	machine := c.sb.current()
	request := c.request()
	c.sb.programs.expect(request.ID)
	proc, err := client.Start(ctx, request)
	if err != nil {
		if ctx.Err() == nil && client.Err() == nil {
			c.sb.programs.forget(request.ID)
		}
		return fail("exec", c.sb.id, err)
	}
	c.mu.Lock()
	c.proc, c.copyc = proc, make(chan struct{})
	c.mu.Unlock()
	id := proc.Started().Process
	c.sb.noteStart(id, c.argv(), time.Time{})
	if c.Detach {
		return fail("exec", c.sb.id, proc.Close())
	}
	if c.Stdin != nil {
		go c.feed(proc)
	}
	kill := func() { // a guest that is stuck, or hostile, does not answer
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = client.Signal(ctx, wire.SignalRequest{Process: id, Signal: int(syscall.SIGKILL), All: true})
	}
	stop := context.AfterFunc(ctx, func() {
		kill()
		select {
		case <-c.copyc:
		case <-time.After(2 * time.Second):
			proc.Close()
		}
	})
	var late bool
	var silent error
	copied, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if late, silent = c.watch(client, copied); late || silent != nil {
			proc.Close()
		}
	}()
	go func() {
		exit, err := proc.Copy(orDiscard(c.Stdout), orDiscard(c.Stderr))
		close(copied)
		<-watched
		defer close(c.copyc)
		stop()
		switch {
		case err == nil:
		case late:
			exit, err = wire.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), Timeout: true}, nil
		case silent != nil:
			err = silent
		}
		if err == nil {
			c.sb.noteExit(id, exit, time.Time{})
		} else if classify(err) != CodeExhausted {
			// Nobody reads its output any more: the stream broke, or a writer did. But
			// one who was too slow for other viewers leaves it to them.
			kill()
		}
		proc.Close()
		if err != nil && classify(err) == CodeUnavailable {
			err = c.sb.brokeDown(machine, err)
		}
		if cause := context.Cause(ctx); cause != nil && (err != nil || exit.Signal == int(syscall.SIGKILL)) {
			err = cause
		}
		c.exit, c.err = exit, err
	}()
	return nil
}

// check refuses what no guest could make sense of.
func (c *Cmd) check() error {
	name, group, withGroup := strings.Cut(c.User, ":")
	switch {
	case c.Detach && (c.Stdin != nil || c.Stdout != nil || c.Stderr != nil):
		return invalid("exec", c.sb.id, "Detach goes without Stdin, Stdout and Stderr: attach to the process instead")
	case c.Linger < 0, c.Linger > 0 && (!c.Detach || c.TTY == nil):
		return invalid("exec", c.sb.id, "Linger goes with Detach and TTY, and is no negative time")
	case c.Dir != "" && !path.IsAbs(c.Dir):
		return invalid("exec", c.sb.id, "working directory %q: must be an absolute path", c.Dir)
	case withGroup && (name == "" || group == ""):
		return invalid("exec", c.sb.id, "user %q: must be name, uid, name:group or uid:gid", c.User)
	}
	return nil
}

// argv is what is run, as an event tells it.
func (c *Cmd) argv() []string {
	if c.shell != "" {
		return []string{"/bin/sh", "-c", c.shell}
	}
	return c.Args
}

func (c *Cmd) request() wire.StartRequest {
	info := c.sb.known()
	cfg := info.Config
	r := wire.StartRequest{ID: store.NewID(), Argv: c.Args, Shell: c.shell, Env: slices.Concat(cfg.Env, envList(info.Env), c.Env), Dir: c.Dir, User: c.User,
		TTY: c.TTY, Stdin: c.Stdin != nil || c.OpenStdin, Timeout: c.Timeout, Linger: c.Linger}
	if r.NeedDir = r.Dir != "" && !c.makeDir; r.Dir == "" {
		r.Dir = cfg.WorkingDir
	}
	if r.User == "" {
		r.User = cfg.User
	}
	return r
}

// feed carries stdin. What Stdin's Read fails with is the caller's own; the
// program sees the end of its input.
func (c *Cmd) feed(proc *agent.Process) {
	_, _ = io.Copy(proc, c.Stdin)
	_ = proc.CloseStdin()
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Wait waits for the program to end and its output to be copied. It returns an
// *ExitError unless the program succeeded, and an ErrUnavailable error when the
// sandbox broke down first. When ctx ends first the program goes on.
func (c *Cmd) Wait(ctx context.Context) error {
	c.mu.Lock()
	done := c.copyc
	c.mu.Unlock()
	if done == nil {
		return invalid("exec", c.sb.id, "not started")
	}
	if c.Detach {
		return c.Process().Wait(ctx)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fail("exec", c.sb.id, context.Cause(ctx))
	}
	if c.err != nil {
		return fail("exec", c.sb.id, c.err)
	}
	return c.sb.exitError(c.exit)
}

// exitError is e, unless it's a success.
func (sb *Sandbox) exitError(e wire.Exit) error {
	if e.Code == 0 && e.Signal == 0 && !e.Timeout {
		return nil
	}
	return &ExitError{Code: e.Code, Signal: syscall.Signal(e.Signal), Timeout: e.Timeout, OOM: e.OOM, MemMiB: sb.memMiB()}
}

func (sb *Sandbox) memMiB() int {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.info.MemMiB
}

// Run starts the program and waits for it. When ctx ends, the program is killed.
func (c *Cmd) Run(ctx context.Context) error {
	if err := c.Start(ctx); err != nil {
		return err
	}
	// Start's goroutine sees ctx end, kills the program and tells: waiting for
	// it makes sure that nothing writes to Stdout once Run has returned.
	return c.Wait(context.WithoutCancel(ctx))
}

// Output runs the program and returns what it wrote to stdout.
func (c *Cmd) Output(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil {
		return nil, invalid("exec", c.sb.id, "Stdout is set already")
	}
	var out bytes.Buffer
	c.Stdout = &out
	var tail *tailWriter
	if c.Stderr == nil {
		tail = &tailWriter{max: 32 << 10}
		c.Stderr = tail
	}
	err := c.Run(ctx)
	if exit := (*ExitError)(nil); errors.As(err, &exit) && tail != nil {
		exit.Stderr = tail.b
	}
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns what it wrote to stdout and
// stderr, in the order in which the guest read it.
func (c *Cmd) CombinedOutput(ctx context.Context) ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, invalid("exec", c.sb.id, "Stdout or Stderr is set already")
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run(ctx)
	return out.Bytes(), err
}

// tailWriter keeps the last max bytes.
type tailWriter struct {
	b   []byte
	max int
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.max; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (c *Cmd) process() (*agent.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return nil, invalid("exec", c.sb.id, "not started")
	}
	return c.proc, nil
}

// Signal sends a signal to the program's process group: on a terminal, to the
// one in its foreground.
func (c *Cmd) Signal(sig syscall.Signal) error {
	proc, err := c.process()
	if err != nil {
		return err
	}
	return fail("signal", c.sb.id, proc.Signal(int(sig), false))
}

// Kill ends the program and all it started, whatever group or session it is in.
func (c *Cmd) Kill() error {
	proc, err := c.process()
	if err != nil {
		return err
	}
	return fail("kill", c.sb.id, proc.Signal(int(syscall.SIGKILL), true))
}

// Resize tells the program's terminal its new size.
func (c *Cmd) Resize(size Size) error {
	proc, err := c.process()
	if err != nil {
		return err
	}
	if c.Detach {
		return c.Process().Resize(context.Background(), size)
	}
	return fail("resize", c.sb.id, proc.Resize(size))
}

// ProcessID is the process's id in the sandbox, "" before Start.
func (c *Cmd) ProcessID() string {
	proc, err := c.process()
	if err != nil {
		return ""
	}
	return proc.Started().Process
}

// PID is the process's number in the sandbox, 0 before Start.
func (c *Cmd) PID() int {
	proc, err := c.process()
	if err != nil {
		return 0
	}
	return proc.Started().PID
}

// Process is the process that was started, to use apart from this Cmd: nil
// before Start.
func (c *Cmd) Process() *Process {
	if id := c.ProcessID(); id != "" {
		return &Process{sb: c.sb, id: id}
	}
	return nil
}
