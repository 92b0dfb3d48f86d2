package server

import (
	"context"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

// A key for one sandbox may take snapshots of it and look at them. To make
// sandboxes of them, or to change them, takes a key for all.
var snapshotRoutes = []route{
	{method: "POST", path: "/api/vms/{id}/snapshot", need: auth.NeedUse, tag: tagSnapshots, summary: "Take a snapshot of a running or paused sandbox", do: call((*Server).takeSnapshot)},
	{method: "POST", path: "/api/vms/{id}/fork", need: auth.NeedUse, tag: tagSnapshots, summary: "Make sandboxes that go on where this one is",
		about: "All are made, or none.", do: call((*Server).fork)},
	{method: "GET", path: "/api/snapshots", need: auth.NeedAny, tag: tagSnapshots, summary: "List snapshots, the newest first", do: call((*Server).listSnapshots)},
	{method: "GET", path: "/api/snapshots/{sid}", need: auth.NeedAny, tag: tagSnapshots, summary: "All there is to know of a snapshot", do: call((*Server).getSnapshot)},
	{method: "PATCH", path: "/api/snapshots/{sid}", need: auth.NeedUse, tag: tagSnapshots, summary: "Change a snapshot's name and metadata", do: call((*Server).updateSnapshot)},
	{method: "PUT", path: "/api/snapshots/{sid}/name", need: auth.NeedUse, tag: tagSnapshots, summary: "Rename a snapshot", do: call((*Server).renameSnapshot)},
	{method: "PUT", path: "/api/snapshots/{sid}/metadata", need: auth.NeedUse, tag: tagSnapshots, summary: "Replace a snapshot's metadata", do: call((*Server).setSnapshotMetadata)},
	{method: "POST", path: "/api/snapshots/{sid}/restore", need: auth.NeedUse, tag: tagSnapshots, summary: "Make a sandbox that goes on from a snapshot", do: call((*Server).restoreSnapshot)},
	{method: "DELETE", path: "/api/snapshots/{sid}", need: auth.NeedUse, tag: tagSnapshots, summary: "Throw a snapshot away",
		about: "A conflict while sandboxes run that were made from it: they share its memory.", do: call((*Server).deleteSnapshot)},
}

// SnapshotRef is the path of a route about one snapshot.
type SnapshotRef struct {
	ID string `path:"sid" doc:"The snapshot's id or name"`
}

func (s *Server) takeSnapshot(ctx context.Context, in *struct {
	VMRef
	Body api.TakeSnapshot
}) (*answer[api.SnapshotTaken], error) {
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	snap, err := sb.Snapshot(ctx, bandsox.SnapshotOptions{Name: in.Body.Name, Metadata: in.Body.Metadata})
	if err != nil {
		return nil, err
	}
	info, err := snap.Info(ctx)
	return answered(api.SnapshotTaken{SnapshotID: info.Name, ID: info.ID}), err
}

func (s *Server) listSnapshots(ctx context.Context, in *struct {
	All bool `query:"all" doc:"Those that BandSox made by itself too: templates, and what forks share"`
}) (*answer[[]api.Snapshot], error) {
	list, err := s.m.Snapshots(ctx, bandsox.SnapshotListOptions{All: in.All})
	if err != nil {
		return nil, err
	}
	who, out := auth.From(ctx), []api.Snapshot{}
	for _, info := range list {
		if who.Sees(info.Source) {
			out = append(out, api.NewSnapshot(info))
		}
	}
	return answered(out), nil
}

func (s *Server) getSnapshot(ctx context.Context, in *SnapshotRef) (*answer[api.Snapshot], error) {
	return s.snapshotInfo(ctx, in.ID)
}

// snapshotInfo is a snapshot, for those who may see what it was taken of; to
// others there is none.
func (s *Server) snapshotInfo(ctx context.Context, ref string) (*answer[api.Snapshot], error) {
	snap, err := s.m.SnapshotOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	info, err := snap.Info(ctx)
	if err == nil && !auth.From(ctx).Sees(info.Source) {
		err = &bandsox.Error{Code: wire.NotFound, Op: "snapshot", ID: ref, Err: wire.Errorf(wire.NotFound, "there is no snapshot %q", ref)}
	}
	if err != nil {
		return nil, err
	}
	return answered(api.NewSnapshot(info)), nil
}

func (s *Server) updateSnapshot(ctx context.Context, in *struct {
	SnapshotRef
	Body api.UpdateSnapshot
}) (*answer[api.Snapshot], error) {
	return s.changeSnapshot(ctx, in.ID, in.Body.Update())
}

func (s *Server) changeSnapshot(ctx context.Context, ref string, u bandsox.SnapshotUpdate) (*answer[api.Snapshot], error) {
	snap, err := s.m.SnapshotOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := snap.Update(ctx, u); err != nil {
		return nil, err
	}
	return s.snapshotInfo(ctx, snap.ID())
}

func (s *Server) renameSnapshot(ctx context.Context, in *struct {
	SnapshotRef
	Body api.Rename
}) (*answer[api.Renamed], error) {
	if _, err := s.changeSnapshot(ctx, in.ID, bandsox.SnapshotUpdate{Name: &in.Body.Name}); err != nil {
		return nil, err
	}
	return answered(api.Renamed{Status: "renamed", Name: in.Body.Name}), nil
}

func (s *Server) setSnapshotMetadata(ctx context.Context, in *struct {
	SnapshotRef
	Body api.SetMetadata
}) (*answer[api.Snapshot], error) {
	if in.Body.Metadata == nil {
		in.Body.Metadata = map[string]any{}
	}
	return s.changeSnapshot(ctx, in.ID, bandsox.SnapshotUpdate{Metadata: in.Body.Metadata, ReplaceMetadata: true})
}

func (s *Server) deleteSnapshot(ctx context.Context, in *SnapshotRef) (*answer[api.Status], error) {
	snap, err := s.m.SnapshotOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return status("deleted"), snap.Delete(ctx)
}

func (s *Server) restoreSnapshot(ctx context.Context, in *struct {
	SnapshotRef
	Body api.RestoreSnapshot
}) (*answer[api.Created], error) {
	snap, err := s.m.SnapshotOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	info, err := snap.Info(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.within(ctx, 1, info.VCPU, info.MemMiB, func(owner string) ([]*bandsox.Sandbox, error) {
		o := in.Body.Options()
		o.Owner = owner
		began := time.Now()
		sb, err := snap.Restore(ctx, o)
		s.figures.created(ctx, sb, time.Since(began), err)
		return []*bandsox.Sandbox{sb}, err
	})
	if err != nil {
		return nil, err
	}
	return answered(api.Created{ID: list[0].ID(), Status: "restored"}), nil
}

func (s *Server) fork(ctx context.Context, in *struct {
	VMRef
	Body api.Fork
}) (*answer[api.Forked], error) {
	if err := auth.Allow(auth.From(ctx), auth.NeedUse, ""); err != nil { // it makes sandboxes
		return nil, err
	}
	sb, err := s.m.Get(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	info, err := sb.Info(ctx)
	if err != nil {
		return nil, err
	}
	n := 1
	if in.Body.Count != nil {
		n = *in.Body.Count
	}
	list, err := s.within(ctx, n, info.VCPU, info.MemMiB, func(owner string) ([]*bandsox.Sandbox, error) {
		return sb.Fork(ctx, n, bandsox.ForkOptions{Name: in.Body.Name, Metadata: in.Body.Metadata, Labels: in.Body.Labels, Owner: owner})
	})
	if err != nil {
		return nil, err
	}
	out := api.Forked{VMs: []api.Created{}}
	for _, child := range list {
		out.VMs = append(out.VMs, api.Created{ID: child.ID(), Status: "forked"})
	}
	return answered(out), nil
}
