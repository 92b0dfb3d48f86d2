package server

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

const processPath = "/api/vms/{id}/processes/{process}"

var processRoutes = []route{
	{method: "GET", path: "/api/vms/{id}/processes", need: auth.NeedRead, tag: tagPrograms, summary: "List what was started in a sandbox, the oldest first", do: call((*Server).listProcesses)},
	{method: "POST", path: "/api/vms/{id}/processes", need: auth.NeedUse, tag: tagPrograms, summary: "Start a program that goes on by itself",
		about: "What it writes is kept, the newest 512 KiB of it, and how it ended.", do: call((*Server).startProcess)},
	{method: "GET", path: processPath, need: auth.NeedRead, tag: tagPrograms, summary: "What is known of a process", do: call((*Server).getProcess)},
	{method: "DELETE", path: processPath, need: auth.NeedUse, tag: tagPrograms, summary: "Kill a process and all that it started", do: call((*Server).killProcess)},
	{method: "POST", path: processPath + "/signal", need: auth.NeedUse, tag: tagPrograms, summary: "Send a signal to a process's group", do: call((*Server).signalProcess)},
	{method: "POST", path: processPath + "/resize", need: auth.NeedUse, tag: tagPrograms, summary: "Tell a process's terminal its size", do: call((*Server).resizeProcess)},
	{method: "POST", path: processPath + "/stdin", need: auth.NeedUse, tag: tagPrograms, summary: "Write the request's body to a process's input",
		about: "Answers when the process has it, or will as soon as it reads.", do: stream((*Server).writeProcess, stdinDoc)},
	{method: "GET", path: processPath + "/wait", need: auth.NeedRead, tag: tagPrograms, summary: "Wait until a process ends", do: call((*Server).waitProcess)},
	{method: "GET", path: processPath + "/output", need: auth.NeedRead, tag: tagPrograms, summary: "What a process has written, and writes",
		about: outputAbout, do: stream((*Server).processOutput, outputDoc)},
	{method: "GET", path: processPath + "/attach", need: auth.NeedUse, tag: tagPrograms, summary: "Join a process's output and input, on a WebSocket",
		about: `The frames are those of exec-stream with binary. The first is {"type": "attached", "process": id, "offset": n, "lost": n}: ` +
			"where in its output the next byte is, and how much of what was asked for is no longer kept. Leaving leaves the process running.",
		do: stream((*Server).attachProcess, attachDoc)},
}

// ProcessRef is the path of a route about one process.
type ProcessRef struct {
	VMRef
	Process string `path:"process" doc:"The process's id, or a beginning of it that no other one's has"`
}

func (s *Server) process(ctx context.Context, ref ProcessRef) (*bandsox.Process, error) {
	sb, err := s.sandbox(ctx, ref.ID)
	if err != nil {
		return nil, err
	}
	return sb.Process(ctx, ref.Process)
}

func (s *Server) listProcesses(ctx context.Context, in *VMRef) (*answer[[]bandsox.ProcessInfo], error) {
	sb, err := s.sandbox(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	list, err := sb.Processes(ctx)
	if list == nil {
		list = []bandsox.ProcessInfo{}
	}
	return answered(list), err
}

func (s *Server) startProcess(ctx context.Context, in *struct {
	VMRef
	Body api.StartProcess
}) (*answer[api.StartedProcess], error) {
	sb, err := s.sandbox(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	cmd, err := command(sb, in.Body.Program)
	if err != nil {
		return nil, err
	}
	if cmd.Timeout, err = in.Body.Timeout.Limit(0); err != nil {
		return nil, err
	}
	cmd.TTY, cmd.Detach, cmd.OpenStdin = in.Body.TTY, true, in.Body.Stdin
	if cmd.TTY != nil {
		if _, err := api.TerminalSize(int(cmd.TTY.Cols), int(cmd.TTY.Rows)); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(ctx); err != nil {
		return nil, err
	}
	return answered(api.StartedProcess{ID: cmd.ProcessID(), PID: cmd.PID()}), nil
}

func (s *Server) getProcess(ctx context.Context, in *ProcessRef) (*answer[bandsox.ProcessInfo], error) {
	p, err := s.process(ctx, *in)
	if err != nil {
		return nil, err
	}
	info, err := p.Info(ctx)
	return answered(info), err
}

func (s *Server) killProcess(ctx context.Context, in *ProcessRef) (*answer[api.Status], error) {
	p, err := s.process(ctx, *in)
	if err != nil {
		return nil, err
	}
	return status("killed"), p.Kill(ctx)
}

func (s *Server) signalProcess(ctx context.Context, in *struct {
	ProcessRef
	Body api.SignalProcess
}) (*answer[api.Status], error) {
	n, err := in.Body.Signal.Number()
	if err != nil {
		return nil, err
	}
	p, err := s.process(ctx, in.ProcessRef)
	if err != nil {
		return nil, err
	}
	return status("signalled"), p.Signal(ctx, n)
}

func (s *Server) resizeProcess(ctx context.Context, in *struct {
	ProcessRef
	Body bandsox.Size
}) (*answer[api.Status], error) {
	size, err := api.TerminalSize(int(in.Body.Cols), int(in.Body.Rows))
	if err != nil {
		return nil, err
	}
	p, err := s.process(ctx, in.ProcessRef)
	if err != nil {
		return nil, err
	}
	return status("resized"), p.Resize(ctx, size)
}

func (s *Server) waitProcess(ctx context.Context, in *struct {
	ProcessRef
	Timeout float64 `query:"timeout" default:"0" minimum:"0" maximum:"86400" doc:"Seconds to wait; 0: without end"`
}) (*answer[api.Ended], error) {
	p, err := s.process(ctx, in.ProcessRef)
	if err != nil {
		return nil, err
	}
	if in.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, api.Seconds(in.Timeout).Duration())
		defer cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	exit, err := api.ExitOf(p.Wait(ctx))
	return answered(exit), err
}

// inputPiece is how much of a request's body is written to a process at once.
const inputPiece = 256 << 10

func (s *Server) writeProcess(w http.ResponseWriter, r *http.Request) error {
	q := query{r.URL.Query(), nil}
	end := q.bool("close")
	if q.err != nil {
		return q.err
	}
	p, err := s.process(r.Context(), ProcessRef{VMRef{r.PathValue("id")}, r.PathValue("process")})
	if err != nil {
		return err
	}
	buf := make([]byte, inputPiece)
	written := false
	for {
		n, rerr := io.ReadFull(r.Body, buf)
		if n > 0 {
			if err := p.Write(r.Context(), buf[:n]); err != nil {
				return err
			}
			written = true
		}
		if rerr == io.EOF || rerr == io.ErrUnexpectedEOF && n < len(buf) {
			break
		}
		if rerr != nil {
			return invalid("reading the body: %w", rerr)
		}
	}
	if end {
		// One that has ended because of what it read has no input to be closed.
		if err := p.CloseStdin(r.Context()); err != nil && !(written && errors.Is(err, bandsox.ErrConflict)) {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(api.JSON(api.Status{Status: "written"}), '\n'))
	return err
}

func (s *Server) attachProcess(w http.ResponseWriter, r *http.Request) error {
	q := query{r.URL.Query(), nil}
	o := bandsox.AttachOptions{Offset: q.int("offset", 0), NewOnly: q.bool("new_only")}
	stdin := q.bool("stdin")
	if q.err != nil {
		return q.err
	}
	k, err := s.socket(w, r)
	if err != nil {
		return err
	}
	defer k.end()
	k.told, k.binary = true, true
	sb, err := s.sandbox(r.Context(), r.PathValue("id"))
	if err != nil {
		k.refuse(err, "")
		return nil
	}
	k.attach(sb, r.PathValue("process"), o, stdin, nil, "attached", "")
	return nil
}

// processDoc documents a raw route about one process.
func processDoc(op *huma.Operation, _ huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam(), &huma.Param{Name: "process", In: "path", Required: true, Schema: aString,
		Description: "The process's id, or a beginning of it that no other one's has"})
}

func attachDoc(op *huma.Operation, r huma.Registry) {
	socketDoc(op, r)
	op.Parameters = nil
	processDoc(op, r)
	op.Parameters = append(op.Parameters, offsetParam(), param("stdin", aBool, false, "The client sends input"),
		param("new_only", aBool, false, "Begin at the end of what there is"))
}

func stdinDoc(op *huma.Operation, r huma.Registry) {
	processDoc(op, r)
	op.Parameters = append(op.Parameters, param("close", aBool, false, "The input ends with it; on a terminal, as Ctrl-D does"))
	op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: bytesSchema}}}
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
		Type: huma.TypeObject, Properties: map[string]*huma.Schema{"status": aString}}}}}}
}

func offsetParam() *huma.Param {
	return param("offset", anInt, false, "Where in its output to begin: stdout and stderr together; a negative one counts from the end")
}

var bytesSchema = &huma.Schema{Type: huma.TypeString, Format: "binary"}
