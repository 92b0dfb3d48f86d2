package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

var vmRoutes = []route{
	{method: "GET", path: "/api/vms", need: auth.NeedAny, tag: tagVMs, summary: "List sandboxes, the newest first", do: call((*Server).listVMs)},
	{method: "GET", path: "/api/projects", need: auth.NeedAny, tag: tagVMs, summary: "List sandboxes: another name of GET /api/vms", do: call((*Server).listVMs)},
	{method: "POST", path: "/api/vms", need: auth.NeedUse, tag: tagVMs, summary: "Make a sandbox from an image",
		about: "Answers when programs can be run in it. With Accept: text/event-stream it answers with events: progress, then created or error.",
		do:    call((*Server).createVM), events: (*Server).createEvents},
	{method: "GET", path: "/api/vms/{id}", need: auth.NeedRead, tag: tagVMs, summary: "All there is to know of a sandbox", do: call((*Server).getVM)},
	{method: "PATCH", path: "/api/vms/{id}", need: auth.NeedUse, tag: tagVMs, summary: "Change a sandbox's name, metadata, labels, environment, times or disk size", do: call((*Server).updateVM)},
	{method: "DELETE", path: "/api/vms/{id}", need: auth.NeedUse, tag: tagVMs, summary: "Throw a sandbox away, running or not", about: "To delete what isn't there is no error.", do: call((*Server).deleteVM)},
	{method: "PUT", path: "/api/vms/{id}/name", need: auth.NeedUse, tag: tagVMs, summary: "Rename a sandbox", do: call((*Server).renameVM)},
	{method: "PUT", path: "/api/vms/{id}/metadata", need: auth.NeedUse, tag: tagVMs, summary: "Replace a sandbox's metadata", do: call((*Server).setVMMetadata)},
	{method: "POST", path: "/api/vms/{id}/start", need: auth.NeedUse, tag: tagVMs, summary: "Boot a stopped sandbox again", do: act("started", (*bandsox.Sandbox).Start)},
	{method: "POST", path: "/api/vms/{id}/stop", need: auth.NeedUse, tag: tagVMs, summary: "End a sandbox's programs and power it off", notRunning: http.StatusNotFound, do: call((*Server).stopVM)},
	{method: "POST", path: "/api/vms/{id}/kill", need: auth.NeedUse, tag: tagVMs, summary: "End a sandbox's machine at once, as a power cut would", do: act("stopped", (*bandsox.Sandbox).Kill)},
	{method: "POST", path: "/api/vms/{id}/restart", need: auth.NeedUse, tag: tagVMs, summary: "Stop and start a sandbox", do: call((*Server).restartVM)},
	{method: "POST", path: "/api/vms/{id}/pause", need: auth.NeedUse, tag: tagVMs, summary: "Stop a sandbox's processors", do: act("paused", (*bandsox.Sandbox).Pause)},
	{method: "POST", path: "/api/vms/{id}/resume", need: auth.NeedUse, tag: tagVMs, summary: "Let a paused sandbox go on", do: act("resumed", (*bandsox.Sandbox).Resume)},
	{method: "GET", path: "/api/vms/{id}/stats", need: auth.NeedRead, tag: tagVMs, summary: "A sandbox's live figures", do: call((*Server).statsVM)},
	{method: "GET", path: "/api/vms/{id}/wait", need: auth.NeedRead, tag: tagVMs, summary: "Wait until a sandbox is in a state", do: call((*Server).waitVM)},
	{method: "GET", path: "/api/vms/{id}/console", need: auth.NeedRead, tag: tagVMs, summary: "What a sandbox's kernel and agent have printed, the newest part", do: stream((*Server).consoleVM, textDoc)},
}

// VMRef is the path of a route about one sandbox.
type VMRef struct {
	ID string `path:"id" doc:"The sandbox's id or name"`
}

// answer is a body that is JSON.
type answer[T any] struct{ Body T }

func answered[T any](body T) *answer[T] { return &answer[T]{body} }

func status(s string) *answer[api.Status] { return answered(api.Status{Status: s}) }

type listVMs struct {
	Limit    int      `query:"limit" minimum:"0" doc:"At most so many; 0: all"`
	After    string   `query:"after" doc:"The cursor of the last one of the page before: the header Bandsox-Next of its answer"`
	State    []string `query:"state" doc:"Only those in one of these states, separated by commas"`
	Label    []string `query:"label,explode" doc:"KEY=VALUE: only those with all these labels; may be given several times"`
	Metadata string   `query:"metadata_equals" doc:"A JSON object: only those whose metadata has all of it; a dot in a key looks inside"`
}

type vmList struct {
	Next string `header:"Bandsox-Next" doc:"The cursor of the next page, if there may be one"`
	Body []bandsox.Info
}

func (s *Server) listVMs(ctx context.Context, in *listVMs) (*vmList, error) {
	o := bandsox.ListOptions{After: in.After}
	for _, st := range in.State {
		o.States = append(o.States, bandsox.State(st))
	}
	labels, err := pairs("label", in.Label)
	if err != nil {
		return nil, err
	}
	o.Labels = labels
	// The reference takes what is no JSON for no filter. A client that gets all
	// instead of some may delete too many, so ours says so.
	if in.Metadata != "" {
		if err := json.Unmarshal([]byte(in.Metadata), &o.Metadata); err != nil {
			return nil, invalid("metadata_equals: must be a JSON object: %v", err)
		}
	}
	list, err := s.m.List(ctx, o)
	if err != nil {
		return nil, err
	}
	who := auth.From(ctx)
	out := &vmList{Body: []bandsox.Info{}}
	for _, info := range list {
		if !who.Sees(info.ID) {
			continue
		}
		if in.Limit > 0 && len(out.Body) == in.Limit {
			out.Next = out.Body[in.Limit-1].Cursor()
			break
		}
		out.Body = append(out.Body, shown(info))
	}
	return out, nil
}

// shown is a sandbox without what only its manager needs: where on the host it
// lies.
func shown(info bandsox.Info) bandsox.Info {
	info.Machine = nil
	return info
}

func (s *Server) createVM(ctx context.Context, in *struct{ Body api.CreateVM }) (*answer[api.Created], error) {
	if in.Body.AutoRemove {
		return nil, invalid("auto_remove goes with Accept: text/event-stream")
	}
	sb, err := s.create(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	return answered(api.Created{ID: sb.ID(), Status: "created"}), nil
}

// create makes a sandbox for whoever asks.
func (s *Server) create(ctx context.Context, c api.CreateVM) (*bandsox.Sandbox, error) {
	if len(c.MCP) > 0 { // better than a sandbox without what was asked for
		return nil, wire.Errorf(wire.Unavailable, "mcp: this server writes no MCP configuration into sandboxes").
			WithHint("write /workspace/.mcp.json yourself, and give what it needs in env_vars")
	}
	return s.make(ctx, c.Options())
}

func (s *Server) getVM(ctx context.Context, in *VMRef) (*answer[bandsox.Info], error) {
	return s.info(ctx, in.ID)
}

func (s *Server) info(ctx context.Context, ref string) (*answer[bandsox.Info], error) {
	sb, err := s.m.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	info, err := sb.Info(ctx)
	return answered(shown(info)), err
}

func (s *Server) updateVM(ctx context.Context, in *struct {
	VMRef
	Body api.UpdateVM
}) (*answer[bandsox.Info], error) {
	return s.update(ctx, in.ID, in.Body.Update())
}

func (s *Server) update(ctx context.Context, ref string, u bandsox.Update) (*answer[bandsox.Info], error) {
	sb, err := s.m.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := sb.Update(ctx, u); err != nil {
		return nil, err
	}
	return s.info(ctx, sb.ID())
}

func (s *Server) renameVM(ctx context.Context, in *struct {
	VMRef
	Body api.Rename
}) (*answer[api.Renamed], error) {
	if _, err := s.update(ctx, in.ID, bandsox.Update{Name: &in.Body.Name}); err != nil {
		return nil, err
	}
	return answered(api.Renamed{Status: "renamed", Name: in.Body.Name}), nil
}

func (s *Server) setVMMetadata(ctx context.Context, in *struct {
	VMRef
	Body api.SetMetadata
}) (*answer[bandsox.Info], error) {
	if in.Body.Metadata == nil {
		in.Body.Metadata = map[string]any{}
	}
	return s.update(ctx, in.ID, bandsox.Update{Metadata: in.Body.Metadata, ReplaceMetadata: true})
}

func (s *Server) deleteVM(ctx context.Context, in *VMRef) (*answer[api.Status], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err == nil {
		err = sb.Delete(ctx)
	}
	if err != nil && !errors.Is(err, bandsox.ErrNotFound) {
		return nil, err
	}
	return status("deleted"), nil
}

// act is a handler that does one thing to a sandbox.
func act(done string, do func(*bandsox.Sandbox, context.Context) error) handler {
	return call(func(s *Server, ctx context.Context, in *VMRef) (*answer[api.Status], error) {
		sb, err := s.m.Get(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return status(done), do(sb, ctx)
	})
}

type stopVM struct {
	VMRef
	Grace float64 `query:"grace" default:"10" minimum:"0" maximum:"3600" doc:"Seconds between SIGTERM and SIGKILL"`
}

func (in stopVM) grace() time.Duration { return api.Seconds(in.Grace).Duration() }

func (s *Server) stopVM(ctx context.Context, in *stopVM) (*answer[api.Status], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return status("stopped"), sb.Stop(ctx, in.grace())
}

func (s *Server) restartVM(ctx context.Context, in *stopVM) (*answer[api.Status], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return status("restarted"), sb.Restart(ctx, in.grace())
}

func (s *Server) statsVM(ctx context.Context, in *VMRef) (*answer[bandsox.Stats], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	stats, err := sb.Stats(ctx)
	return answered(stats), err
}

type waitVM struct {
	VMRef
	State   string  `query:"state" default:"running" doc:"creating, running, paused, stopped, failed or deleted"`
	Timeout float64 `query:"timeout" default:"0" minimum:"0" maximum:"86400" doc:"Seconds to wait; 0: without end"`
}

func (s *Server) waitVM(ctx context.Context, in *waitVM) (*answer[api.Status], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, api.Seconds(in.Timeout).Duration())
		defer cancel()
	}
	return status(in.State), sb.Wait(ctx, bandsox.State(in.State))
}

func (s *Server) consoleVM(w http.ResponseWriter, r *http.Request) error {
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	console, err := sb.Console(r.Context())
	if err != nil {
		return err
	}
	defer console.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return copyOut(w, console)
}
