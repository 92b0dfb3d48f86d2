package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// Snapshot is a sandbox at one instant, kept by a server.
type Snapshot struct {
	c  *Client
	id string
}

// Snapshot takes a snapshot of a running or paused sandbox. A running one stands
// still for as long as what it has written to its memory takes to be copied.
func (sb *Sandbox) Snapshot(ctx context.Context, o bandsox.SnapshotOptions) (*Snapshot, error) {
	var taken api.SnapshotTaken
	if err := sb.call(ctx, "snapshot", http.MethodPost, "snapshot", nil, api.TakeSnapshot{Name: o.Name, Metadata: o.Metadata}, &taken); err != nil {
		return nil, err
	}
	return &Snapshot{c: sb.c, id: taken.ID}, nil
}

// Fork makes n sandboxes that go on where this one is, its programs running in
// each. All are made, or on error none. The server ends none of them when this
// program does: AutoRemove is refused.
func (sb *Sandbox) Fork(ctx context.Context, n int, o bandsox.ForkOptions) ([]*Sandbox, error) {
	if o.AutoRemove {
		return nil, failure("fork", sb.id, noLease())
	}
	var forked api.Forked
	if err := sb.call(ctx, "fork", http.MethodPost, "fork", nil, api.Fork{Count: &n, Name: o.Name, Metadata: o.Metadata, Labels: o.Labels}, &forked); err != nil {
		return nil, err
	}
	list := make([]*Sandbox, 0, len(forked.VMs))
	for _, vm := range forked.VMs {
		list = append(list, &Sandbox{c: sb.c, id: vm.ID})
	}
	return list, nil
}

// Snapshots lists the snapshots, the newest first.
func (c *Client) Snapshots(ctx context.Context, o bandsox.SnapshotListOptions) ([]bandsox.SnapshotInfo, error) {
	q := url.Values{}
	if o.All {
		q.Set("all", "true")
	}
	var list []bandsox.SnapshotInfo
	err := c.get(ctx, "snapshots", "/api/snapshots", q, &list)
	return list, err
}

// SnapshotOf finds a snapshot by id or name.
func (c *Client) SnapshotOf(ctx context.Context, ref string) (*Snapshot, error) {
	var info bandsox.SnapshotInfo
	if err := c.call(ctx, "snapshot", ref, http.MethodGet, snapshotPath(ref), nil, nil, &info); err != nil {
		return nil, err
	}
	return &Snapshot{c: c, id: info.ID}, nil
}

// noLease is the error of those that can't be made to end with their creator.
func noLease() error {
	return wire.Errorf(wire.Invalid, "AutoRemove: a server can't tell when this program has ended").WithHint("delete it, or give it a time to live with Update")
}

func snapshotPath(ref string) string { return "/api/snapshots/" + url.PathEscape(ref) }

// ID is the snapshot's id.
func (s *Snapshot) ID() string { return s.id }

func (s *Snapshot) call(ctx context.Context, op, method, rest string, in, out any) error {
	return s.c.call(ctx, op, s.id, method, snapshotPath(s.id)+rest, nil, in, out)
}

// Info returns what is known of the snapshot.
func (s *Snapshot) Info(ctx context.Context) (info bandsox.SnapshotInfo, err error) {
	err = s.call(ctx, "snapshot", http.MethodGet, "", nil, &info)
	return info, err
}

// Update changes the snapshot's name and metadata: all that is asked for, or on
// error nothing.
func (s *Snapshot) Update(ctx context.Context, u bandsox.SnapshotUpdate) error {
	return s.call(ctx, "update", http.MethodPatch, "", api.NewUpdateSnapshot(u), nil)
}

// Delete throws the snapshot away. It is a conflict while sandboxes run that were
// made from it.
func (s *Snapshot) Delete(ctx context.Context) error {
	return s.call(ctx, "delete", http.MethodDelete, "", nil, nil)
}

// Restore makes a sandbox that goes on where the snapshot's was. The server does
// not end it when this program does: AutoRemove is refused.
func (s *Snapshot) Restore(ctx context.Context, o bandsox.RestoreOptions) (*Sandbox, error) {
	if o.AutoRemove {
		return nil, failure("restore", s.id, noLease())
	}
	var made api.Created
	if err := s.call(ctx, "restore", http.MethodPost, "/restore", api.NewRestoreSnapshot(o), &made); err != nil {
		return nil, err
	}
	return &Sandbox{c: s.c, id: made.ID}, nil
}
