package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

var execRoutes = []route{
	{method: "POST", path: "/api/vms/{id}/exec", need: auth.NeedUse, tag: tagPrograms, summary: "Run a program and wait for its end", notRunning: http.StatusNotFound,
		about: "With Accept: text/event-stream it answers with events as they happen: started, stdout, stderr, then exit or error. " +
			"A piece of output that is no UTF-8 has `\"encoding\": \"base64\"`. A caller who leaves kills the program. " +
			"With Accept: " + api.FramesType + " it answers with the same as frames: a byte, the length in four bytes, the greatest first, and so much of " +
			"JSON as an exec-stream's (0), stdout (1) or stderr (2). An empty one of 0 says nothing.",
		do: call((*Server).exec), events: (*Server).execEvents, frames: (*Server).execFrames},
	{method: "GET", path: "/api/vms/{id}/exec-stream", need: auth.NeedUse, tag: tagPrograms, summary: "Run a program, with its input and output on a WebSocket",
		about: execStreamAbout, do: stream((*Server).execStream, socketDoc)},
	{method: "GET", path: "/api/vms/{id}/terminal", need: auth.NeedUse, tag: tagPrograms, summary: "A shell on a terminal, on a WebSocket",
		about: terminalAbout, do: stream((*Server).terminal, terminalDoc)},
	{method: "POST", path: "/api/vms/{id}/exec-python", need: auth.NeedUse, tag: tagPrograms, summary: "Run Python code and wait for its end", notRunning: http.StatusNotFound,
		about: "What goes wrong in the code, or for want of an interpreter, is in the answer: its status is 200 all the same.", do: call((*Server).execPython)},
}

const (
	execTimeout = 30 * time.Second // where a caller gives none
	maxOutput   = 64 << 20         // of a program that is waited for
)

// command makes the command that a request asks for.
func command(sb *bandsox.Sandbox, p api.Program) (*bandsox.Cmd, error) {
	var c *bandsox.Cmd
	switch {
	case p.Command != "" && len(p.Args) > 0:
		return nil, invalid("both a command and args are given")
	case p.Command != "":
		c = sb.Shell(p.Command)
	case len(p.Args) > 0:
		c = sb.Command(p.Args[0], p.Args[1:]...)
	default:
		return nil, &api.Error{Code: wire.Invalid, Status: http.StatusUnprocessableEntity,
			Detail: api.Detail{Problems: []api.Problem{{Loc: []any{"body", "command"}, Msg: "Field required", Type: "missing"}}}}
	}
	c.Env, c.Dir, c.User = p.Env, p.Dir, p.User
	return c, nil
}

// execCommand is the command of an Exec.
func (s *Server) execCommand(ctx context.Context, ref string, body api.Exec) (*bandsox.Cmd, *bandsox.Sandbox, error) {
	sb, err := s.sandbox(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	cmd, err := command(sb, body.Program)
	if err != nil {
		return nil, nil, err
	}
	if cmd.Timeout, err = body.Timeout.Limit(execTimeout); err != nil {
		return nil, nil, err
	}
	if body.Stdin != "" {
		cmd.Stdin = strings.NewReader(body.Stdin)
	}
	return cmd, sb, nil
}

func (s *Server) exec(ctx context.Context, in *struct {
	VMRef
	Body api.Exec
}) (*answer[api.Executed], error) {
	cmd, sb, err := s.execCommand(ctx, in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	out := &bounded{left: maxOutput}
	var large error
	out.over = func() {
		large = &tooMuch{wire.Errorf(wire.Exhausted, "the program wrote more than %d MiB", maxOutput>>20).
			WithHint("Accept: text/event-stream has it as it comes; exec-stream, too")}
		cancel(large)
	}
	at := make(gate)
	at.open()
	cmd.Stdout, cmd.Stderr = at.writer(api.FrameStdout, out.put), at.writer(api.FrameStderr, out.put)
	err = cmd.Run(ctx)
	if large != nil {
		return nil, large
	}
	exit, err := api.ExitOf(err)
	switch {
	case err != nil:
		return nil, err
	case exit.TimedOut:
		return nil, timedOut(sb.ID())
	}
	return answered(api.Executed{ExitCode: exit.ExitCode, Signal: exit.Signal, OOM: exit.OOM,
		Stdout: text(out.out[api.FrameStdout].Bytes()), Stderr: text(out.out[api.FrameStderr].Bytes())}), nil
}

// errClosing is why a program ends with the server.
var errClosing = wire.Errorf(wire.Unavailable, "the server is shutting down")

// timedOut is the reference's error of a program whose time was over.
func timedOut(id string) error {
	return &bandsox.Error{Code: bandsox.CodeTimeout, Op: "exec", ID: id, Err: &wire.Error{Code: wire.Timeout, Message: "Command timed out"},
		Hint: "give it more by timeout, in seconds; 0: as long as it takes"}
}

// execEvents is exec with the output as it comes.
func (s *Server) execEvents(w http.ResponseWriter, r *http.Request) error {
	return s.execLive(w, r, &execEvents{s: s})
}

// outlet is where a program that runs is told of, from the moment it does.
type outlet interface {
	started(w http.ResponseWriter, process string, pid int)
	put(stream byte, p []byte) error
	ended(err error) error // of the wait for it
}

// execLive runs a program that is told of as it goes.
func (s *Server) execLive(w http.ResponseWriter, r *http.Request, to outlet) error {
	var body api.Exec
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	cmd, _, err := s.execCommand(r.Context(), r.PathValue("id"), body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	began := make(gate)
	cmd.Stdout, cmd.Stderr = began.writer(api.FrameStdout, to.put), began.writer(api.FrameStderr, to.put)
	if err := cmd.Start(ctx); err != nil {
		return err
	}
	to.started(w, cmd.ProcessID(), cmd.PID())
	began.open()
	return to.ended(cmd.Wait(context.WithoutCancel(ctx)))
}

// execEvents tells it by events, with the output as text.
type execEvents struct {
	s *Server
	*events
	cuts texts
}

func (e *execEvents) started(w http.ResponseWriter, process string, pid int) {
	e.events = newEvents(w)
	_ = e.send("", "started", api.Started{Process: process, PID: pid})
}

func (e *execEvents) put(kind byte, p []byte) error {
	if p = e.cuts.cut(kind, p); len(p) == 0 {
		return nil
	}
	return e.send("", streamNames[kind], piece(p))
}

func (e *execEvents) ended(err error) error {
	defer e.close()
	for kind := byte(api.FrameStdout); kind <= api.FrameStderr; kind++ {
		if p := e.cuts.rest(kind); len(p) > 0 {
			_ = e.send("", streamNames[kind], piece(p))
		}
	}
	return e.s.sendEnd(e.events, err)
}

// sendEnd sends the last event of a program that was waited for.
func (s *Server) sendEnd(stream *events, err error) error {
	exit, err := api.ExitOf(err)
	if err != nil {
		return stream.send("", "error", s.asStatus(err, nil))
	}
	return stream.send("", "exit", exit)
}
