package api

import "github.com/bandsox/bandsox"

// Snapshot is a snapshot as the API shows it: with the keys of the reference's,
// null where there is no such thing here.
type Snapshot struct {
	bandsox.SnapshotInfo
	Called        string  `json:"name" doc:"The same as snapshot_name"`
	Rootfs        *string `json:"rootfs_path" doc:"null: the disk is no file of its own kind here"`
	BackendRootfs *string `json:"backend_rootfs_path"`
	NetworkConfig *string `json:"network_config"`
	VsockConfig   *string `json:"vsock_config"`
}

// NewSnapshot is how a server shows a snapshot.
func NewSnapshot(info bandsox.SnapshotInfo) Snapshot {
	return Snapshot{SnapshotInfo: info, Called: info.Name}
}

// TakeSnapshot asks for a snapshot of a sandbox.
type TakeSnapshot struct {
	_        struct{}       `json:"-" additionalProperties:"true"`
	Name     string         `json:"name,omitempty" doc:"Unique among snapshots; default: the sandbox's name or id, and a number"`
	Metadata map[string]any `json:"metadata,omitempty" doc:"Your own"`
}

// SnapshotTaken is the answer to that.
type SnapshotTaken struct {
	SnapshotID string `json:"snapshot_id" doc:"The snapshot's name"`
	ID         string `json:"id" doc:"The snapshot's id, which no renaming changes"`
}

// RestoreSnapshot asks for a sandbox that goes on from a snapshot. Null is as if
// it weren't there.
type RestoreSnapshot struct {
	_           struct{}          `json:"-" additionalProperties:"true"`
	Name        string            `json:"name,omitempty" doc:"Unique among sandboxes"`
	Networking  *bool             `json:"enable_networking,omitempty" default:"true"`
	DiskSizeMiB int               `json:"disk_size_mib,omitempty" doc:"More than the snapshot's grows the disk"`
	Env         map[string]string `json:"env_vars,omitempty" doc:"Merged into the snapshot's, of programs that are started from now on"`
	Metadata    map[string]any    `json:"metadata,omitempty" doc:"Your own"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Your own, to list by"`
}

// Options are what the library is asked for.
func (r RestoreSnapshot) Options() bandsox.RestoreOptions {
	return bandsox.RestoreOptions{Name: r.Name, DiskSizeMiB: r.DiskSizeMiB, Env: r.Env, Metadata: r.Metadata, Labels: r.Labels}
}

// NewRestoreSnapshot is how a client asks for what o says.
func NewRestoreSnapshot(o bandsox.RestoreOptions) RestoreSnapshot {
	return RestoreSnapshot{Name: o.Name, DiskSizeMiB: o.DiskSizeMiB, Env: o.Env, Metadata: o.Metadata, Labels: o.Labels}
}

// UpdateSnapshot changes what is given; the rest stays.
type UpdateSnapshot struct {
	Name            *string        `json:"name,omitempty"`
	Metadata        map[string]any `json:"metadata,omitempty" doc:"Merged, as RFC 7396 has it: null takes a key away"`
	ReplaceMetadata bool           `json:"replace_metadata,omitempty" doc:"Metadata takes the place of what is there instead"`
}

// Update is what the library is asked for.
func (u UpdateSnapshot) Update() bandsox.SnapshotUpdate {
	return bandsox.SnapshotUpdate{Name: u.Name, Metadata: u.Metadata, ReplaceMetadata: u.ReplaceMetadata}
}

// NewUpdateSnapshot is how a client asks for what u says.
func NewUpdateSnapshot(u bandsox.SnapshotUpdate) UpdateSnapshot {
	return UpdateSnapshot{Name: u.Name, Metadata: u.Metadata, ReplaceMetadata: u.ReplaceMetadata}
}

// Fork asks for sandboxes that go on where another is.
type Fork struct {
	Count    *int              `json:"count,omitempty" default:"1" minimum:"1" maximum:"256" doc:"How many"`
	Name     string            `json:"name,omitempty" doc:"Of one; of several it is followed by a number"`
	Metadata map[string]any    `json:"metadata,omitempty" doc:"Merged into the sandbox's"`
	Labels   map[string]string `json:"labels,omitempty" doc:"Merged into the sandbox's"`
}

// Forked is the answer to that.
type Forked struct {
	VMs []Created `json:"vms"`
}
