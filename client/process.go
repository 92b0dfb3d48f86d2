package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// Process is one process of a sandbox, whoever started it. It goes on for as
// long as the sandbox runs, whether or not anybody is attached to it, and how
// it ended is known for a while afterwards.
type Process struct {
	sb *Sandbox
	id string
}

// Processes lists the processes that were started in the sandbox, oldest first.
func (sb *Sandbox) Processes(ctx context.Context) ([]bandsox.ProcessInfo, error) {
	var list []bandsox.ProcessInfo
	err := sb.call(ctx, "processes", http.MethodGet, "processes", nil, nil, &list)
	return list, err
}

// Process finds a process by its id, or by a beginning of it that no other
// one's has.
func (sb *Sandbox) Process(ctx context.Context, ref string) (*Process, error) {
	if ref == "" {
		return nil, failure("process", sb.id, wire.Errorf(wire.NotFound, "there is no process %q", ref).WithHint("bandsox top %s", sb.id))
	}
	info, err := (&Process{sb: sb, id: ref}).Info(ctx)
	if err != nil {
		return nil, err
	}
	return &Process{sb: sb, id: info.ID}, nil
}

// ID is the process's id.
func (p *Process) ID() string { return p.id }

func (p *Process) call(ctx context.Context, op, method, what string, in, out any) error {
	return p.sb.c.call(ctx, op, p.sb.id, method, p.path(what), nil, in, out)
}

func (p *Process) path(what string) string {
	path := vmPath(p.sb.id, "processes", p.id)
	if what != "" {
		path += "/" + what
	}
	return path
}

// Info returns what is known of the process now.
func (p *Process) Info(ctx context.Context) (bandsox.ProcessInfo, error) {
	var info bandsox.ProcessInfo
	err := p.call(ctx, "process", http.MethodGet, "", nil, &info)
	return info, err
}

// Wait waits for the process to end, if it has not yet. It returns an
// *ExitError unless it succeeded.
func (p *Process) Wait(ctx context.Context) error {
	var exit api.Ended
	if err := p.call(ctx, "wait", http.MethodGet, "wait", nil, &exit); err != nil {
		return err
	}
	return exit.Err()
}

// Signal sends a signal to the process's group: on a terminal, to the one in
// its foreground.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.call(ctx, "signal", http.MethodPost, "signal", api.SignalProcess{Signal: api.Signal(sig)}, nil)
}

// Kill ends the process and all it started, whatever group or session it is in.
func (p *Process) Kill(ctx context.Context) error {
	return p.call(ctx, "kill", http.MethodDelete, "", nil, nil)
}

// Resize tells the process's terminal its new size.
func (p *Process) Resize(ctx context.Context, size bandsox.Size) error {
	return p.call(ctx, "resize", http.MethodPost, "resize", size, nil)
}

// Write writes b to the process's input. It waits while the process doesn't
// read.
func (p *Process) Write(ctx context.Context, b []byte) error { return p.input(ctx, b, nil) }

// CloseStdin ends the process's input. On a terminal it is what Ctrl-D is.
func (p *Process) CloseStdin(ctx context.Context) error {
	return p.input(ctx, nil, url.Values{"close": {"true"}})
}

func (p *Process) input(ctx context.Context, b []byte, q url.Values) error {
	resp, err := p.sb.c.send(ctx, "write", p.sb.id, http.MethodPost, p.path("stdin"), q, bytes.NewReader(b), nil)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.Body.Close()
}

// Attachment is one viewer of a process, of however many. One that holds the
// process up for long, because it doesn't take its output, is cut off with an
// ErrExhausted error; it may attach again at its Offset.
type Attachment struct {
	p           *Process
	k           *socket
	start, lost int64
	offset      atomic.Int64
	left        atomic.Bool
	done        chan struct{}
	err         error
}

// Attach joins the process's output and input. When ctx ends the process is
// detached from, and goes on. One that has ended is attached to like one that
// runs: what is kept of its output comes, and how it ended.
func (p *Process) Attach(ctx context.Context, o bandsox.AttachOptions) (*Attachment, error) {
	q := url.Values{"offset": {strconv.FormatInt(o.Offset, 10)}, "stdin": {"true"}}
	if o.NewOnly {
		q.Set("new_only", "true")
	}
	k, err := p.sb.open(ctx, "attach", p.path("attach"), q)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, k.end)
	f, err := k.next(writers(nil, nil))
	if !stop() || err != nil || f.Type != "attached" {
		k.end()
		if err == nil {
			err = k.broke(io.ErrUnexpectedEOF)
		}
		return nil, failure("attach", p.sb.id, ctxOr(ctx, err))
	}
	a := &Attachment{p: p, k: k, start: f.Offset, lost: f.Lost, done: make(chan struct{})}
	a.offset.Store(f.Offset)
	if o.Stdin != nil {
		go k.feed(o.Stdin)
	}
	go a.run(ctx, writers(o.Stdout, o.Stderr))
	return a, nil
}

func (a *Attachment) run(ctx context.Context, out func(byte, []byte) error) {
	defer close(a.done)
	defer a.k.end()
	defer context.AfterFunc(ctx, a.k.end)()
	f, err := a.k.next(func(stream byte, b []byte) error {
		err := out(stream, b)
		if err == nil {
			a.offset.Add(int64(len(b)))
		}
		return err
	})
	var exit *bandsox.ExitError
	switch {
	case err == nil && f.Type == "exit":
		if err = f.Ended.Err(); errors.As(err, &exit) || err == nil {
			a.err = err
			return
		}
	case err == nil:
		err = a.k.broke(io.ErrUnexpectedEOF)
	}
	switch {
	case a.left.Load():
		err = bandsox.ErrDetached
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	a.err = failure("attach", a.p.sb.id, err)
}

// Start is the offset at which the output begins: that of AttachOptions, or
// the oldest that is still kept.
func (a *Attachment) Start() int64 { return a.start }

// Lost is how many bytes that were asked for are no longer kept.
func (a *Attachment) Lost() int64 { return a.lost }

// Offset is that of the next byte to be written to Stdout or Stderr: where to
// attach again.
func (a *Attachment) Offset() int64 { return a.offset.Load() }

// Write writes to the process's input. It waits while the process doesn't read.
func (a *Attachment) Write(b []byte) (int, error) {
	n, err := a.k.write(b)
	return n, failure("write", a.p.sb.id, err)
}

// CloseStdin ends the process's input. On a terminal it is what Ctrl-D is.
func (a *Attachment) CloseStdin() error { return failure("write", a.p.sb.id, a.k.closeStdin()) }

// Signal is Process.Signal.
func (a *Attachment) Signal(sig syscall.Signal) error { return a.p.Signal(context.Background(), sig) }

// Resize tells the process's terminal its new size.
func (a *Attachment) Resize(size bandsox.Size) error {
	return a.p.Resize(context.Background(), size)
}

// Wait waits for the process to end and its output to be copied. It returns an
// *ExitError unless the process succeeded, and ErrDetached after Detach.
func (a *Attachment) Wait(ctx context.Context) error {
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return failure("attach", a.p.sb.id, context.Cause(ctx))
	}
}

// Detach leaves the process to itself. Nothing is written to Stdout and Stderr
// once it has returned.
func (a *Attachment) Detach() error {
	a.left.Store(true)
	a.k.end()
	<-a.done
	return nil
}
