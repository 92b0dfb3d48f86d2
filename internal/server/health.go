package server

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

var healthRoutes = []route{
	{method: "GET", path: "/healthz", need: auth.NeedNone, tag: tagHouse, summary: "Whether the server answers", do: call((*Server).healthz)},
	{method: "GET", path: "/readyz", need: auth.NeedNone, tag: tagHouse, summary: "Whether the server can make sandboxes: 503 with the reason if not", do: call((*Server).readyz)},
	{method: "GET", path: "/version", need: auth.NeedNone, tag: tagHouse, summary: "What the server is", do: call((*Server).versionOf)},
	{method: "GET", path: "/metrics", need: auth.NeedNone, tag: tagHouse, summary: "Figures, as Prometheus reads them",
		about: "From another machine it takes a key with the scope read.", do: stream((*Server).metricsText, metricsDoc)},
}

// leastFree is the room that a server must have to be ready: an image or a disk
// that doesn't fit leaves nothing behind, but the records must.
const leastFree = 64 << 20

func (s *Server) healthz(context.Context, *struct{}) (*answer[api.Status], error) {
	return status("ok"), nil
}

func (s *Server) readyz(ctx context.Context, _ *struct{}) (*answer[api.Ready], error) {
	dir := s.m.Storage()
	for _, err := range s.m.PastEvents(ctx, bandsox.EventsFromNow) {
		if err != nil {
			return nil, wire.Errorf(wire.Unavailable, "the records can't be read: %v", err)
		}
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "the state directory %s can't be written: %w", dir, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "the state directory %s: %w", dir, err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free < leastFree {
		return nil, wire.Errorf(wire.Unavailable, "the state directory %s has %d MiB left", dir, free>>20).WithHint("bandsox image prune; bandsox cleanup")
	}
	with, err := s.m.Ready(ctx)
	if err != nil { // whatever its code is: what is missing is the server's
		unready := wire.Errorf(wire.Unavailable, "%w", err)
		var e *bandsox.Error
		if errors.As(err, &e) {
			unready.Hint = e.Hint
		}
		return nil, unready
	}
	return answered(api.Ready{Status: "ready", FreeBytes: free, Readiness: with}), nil
}

func (s *Server) versionOf(ctx context.Context, _ *struct{}) (*answer[api.Version], error) {
	snapshots := slices.ContainsFunc(s.routes, func(rt route) bool { return rt.path == "/api/snapshots" })
	v := api.Version{Version: s.version, Go: runtime.Version(), Arch: bandsox.Arch, Driver: s.m.Driver(), Domain: s.domain, Snapshots: snapshots}
	if auth.From(ctx).Kind == auth.Local {
		v.Settings = s.settings
	}
	return answered(v), nil
}
