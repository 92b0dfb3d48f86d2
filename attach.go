package bandsox

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"syscall"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// ErrDetached is what Attachment.Wait returns after Detach.
var ErrDetached = errors.New("detached")

// AttachOptions say what an attachment carries. The zero value carries
// nothing, and waits.
type AttachOptions struct {
	// Offset is where in the output to begin: stdout and stderr together, in the
	// order in which the guest read them. 0 is the process's first byte; a
	// negative one counts from the end. Where less is kept, Attachment.Lost tells.
	Offset int64
	// NewOnly begins at the end instead: with what is written from now on.
	NewOnly bool

	Stdin          io.Reader // nil: none. Its end is the end of the process's input
	Stdout, Stderr io.Writer // nil: discarded
}

// Attachment is one viewer of a process, of however many. One that holds the
// process up for 10 s, because it doesn't take its output, is cut off with an
// ErrExhausted error; it may attach again at its Offset.
type Attachment struct {
	p      *Process
	proc   *agent.Process
	asked  int64
	offset atomic.Int64
	left   atomic.Bool
	done   chan struct{}
	exit   wire.Exit
	err    error
}

// Attach joins the process's output and input. When ctx ends the process is
// detached from, and goes on. One that has ended is attached to like one that
// runs: what is kept of its output comes, and how it ended.
func (p *Process) Attach(ctx context.Context, o AttachOptions) (*Attachment, error) {
	a := &Attachment{p: p, asked: o.Offset, done: make(chan struct{})}
	if o.NewOnly {
		a.asked = math.MaxInt64
	}
	err := p.do(ctx, "attach", func(c *agent.Client) (err error) {
		a.proc, err = c.Attach(ctx, wire.AttachRequest{Process: p.id, Offset: a.asked})
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.NewOnly || o.Offset < 0 {
		a.asked = a.Start()
	}
	if a.asked > a.Start() {
		a.proc.Close()
		return nil, invalid("attach", p.sb.id, "offset %d is beyond the end of the output of process %s, which is at %d", o.Offset, p.id, a.Start())
	}
	a.offset.Store(a.Start())
	if o.Stdin != nil {
		go func() {
			_, _ = io.Copy(a.proc, o.Stdin)
			_ = a.proc.CloseStdin()
		}()
	}
	go a.run(ctx, orDiscard(o.Stdout), orDiscard(o.Stderr))
	return a, nil
}

func (a *Attachment) run(ctx context.Context, stdout, stderr io.Writer) {
	defer close(a.done)
	defer a.proc.Close()
	machine := a.p.sb.current()
	err := a.copy(stdout, stderr)
	switch {
	case err == nil:
	case a.left.Load():
		err = ErrDetached
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case classify(err) == CodeUnavailable:
		err = a.p.sb.brokeDown(machine, err)
	}
	a.err = err
}

// copy copies the output until the process ends.
func (a *Attachment) copy(stdout, stderr io.Writer) error {
	for {
		kind, b, err := a.proc.Recv()
		if err == io.EOF {
			a.exit, _ = a.proc.Exit()
			return nil
		}
		if err != nil {
			return err
		}
		w := stdout
		if kind == wire.KindStderr {
			w = stderr
		}
		n, err := w.Write(b)
		a.offset.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// Start is the offset at which the output begins: that of AttachOptions, or
// the oldest that is still kept.
func (a *Attachment) Start() int64 { return a.proc.Started().Offset }

// Lost is how many bytes that were asked for are no longer kept.
func (a *Attachment) Lost() int64 { return a.Start() - a.asked }

// Offset is that of the next byte to be written to Stdout or Stderr: where to
// attach again.
func (a *Attachment) Offset() int64 { return a.offset.Load() }

// Write writes to the process's input. It waits while the process doesn't read.
func (a *Attachment) Write(b []byte) (int, error) {
	n, err := a.proc.Write(b)
	return n, fail("write", a.p.sb.id, err)
}

// CloseStdin ends the process's input. On a terminal it is what Ctrl-D is.
func (a *Attachment) CloseStdin() error { return fail("write", a.p.sb.id, a.proc.CloseStdin()) }

// Signal is Process.Signal.
func (a *Attachment) Signal(sig syscall.Signal) error {
	return fail("signal", a.p.sb.id, a.proc.Signal(int(sig), false))
}

// Resize tells the process's terminal its new size.
func (a *Attachment) Resize(size Size) error { return fail("resize", a.p.sb.id, a.proc.Resize(size)) }

// Wait waits for the process to end and its output to be copied. It returns an
// *ExitError unless the process succeeded, and ErrDetached after Detach.
func (a *Attachment) Wait(ctx context.Context) error {
	select {
	case <-a.done:
	case <-ctx.Done():
		return fail("attach", a.p.sb.id, context.Cause(ctx))
	}
	if a.err != nil {
		return fail("attach", a.p.sb.id, a.err)
	}
	return a.p.sb.exitError(a.exit)
}

// Detach leaves the process to itself. Nothing is written to Stdout and Stderr
// once it has returned.
func (a *Attachment) Detach() error {
	a.left.Store(true)
	err := a.proc.Close()
	<-a.done
	return fail("detach", a.p.sb.id, err)
}
