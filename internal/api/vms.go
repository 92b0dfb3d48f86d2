package api

import (
	"encoding/json"
	"time"

	"github.com/bandsox/bandsox"
)

// Status is the answer of a route that has nothing else to say.
type Status struct {
	Status string `json:"status"`
}

// Created is the answer to a create or a restore.
type Created struct {
	ID     string `json:"id" doc:"The sandbox's id"`
	Status string `json:"status"`
}

// Renamed is the answer to a rename.
type Renamed struct {
	Status string `json:"status"`
	Name   string `json:"name"`
}

// CreateVM asks for a sandbox. Null is as if it weren't there.
type CreateVM struct {
	_           struct{}           `json:"-" additionalProperties:"true"`
	Image       string             `json:"image" doc:"A name, or docker-daemon:, docker-archive:, oci-archive:, oci:, dir: and a path of the server's host"`
	Name        string             `json:"name,omitempty" doc:"Unique among sandboxes; may stand wherever an id can"`
	VCPU        int                `json:"vcpu,omitempty" default:"1"`
	MemMiB      int                `json:"mem_mib,omitempty" default:"128"`
	DiskSizeMiB int                `json:"disk_size_mib,omitempty" default:"4096" doc:"The most it can hold, not what it takes"`
	Networking  *bool              `json:"enable_networking,omitempty" default:"true"`
	Rebuild     bool               `json:"force_rebuild,omitempty" doc:"Look for a newer image of this name, boot it, and make its template anew"`
	Template    *bool              `json:"template,omitempty" default:"true" doc:"Go on from a machine that was saved when it had just booted, where there is one; false: boot, and save none"`
	Pull        bandsox.PullPolicy `json:"pull,omitempty" enum:"missing,always,never" default:"missing"`
	Env         map[string]string  `json:"env_vars,omitempty" doc:"Of every program in it, over the image's"`
	Metadata    map[string]any     `json:"metadata,omitempty" doc:"Your own"`
	Labels      map[string]string  `json:"labels,omitempty" doc:"Your own, to list by"`
	TTL         Seconds            `json:"ttl,omitempty" doc:"Seconds until it is deleted, whatever it does; 0: never"`
	IdleTimeout Seconds            `json:"idle_timeout,omitempty" doc:"Seconds it may be unused; 0: any"`
	IdleAction  bandsox.IdleAction `json:"idle_action,omitempty" enum:"stop,pause,delete" doc:"What is done then; pause if not given"`
	MCP         map[string]any     `json:"mcp,omitempty" doc:"Not offered: refused, where it isn't empty"`
	AutoRemove  bool               `json:"auto_remove,omitempty" doc:"Delete it when this request's connection is closed; only with Accept: text/event-stream"`
}

// Options are what the library is asked for.
func (c CreateVM) Options() bandsox.CreateOptions {
	o := bandsox.CreateOptions{Image: c.Image, Name: c.Name, VCPU: c.VCPU, MemMiB: c.MemMiB, DiskSizeMiB: c.DiskSizeMiB,
		Env: c.Env, Metadata: c.Metadata, Labels: c.Labels, Pull: c.Pull, AutoRemove: c.AutoRemove,
		TTL: c.TTL.Duration(), IdleTimeout: c.IdleTimeout.Duration(), IdleAction: c.IdleAction,
		NoTemplate: c.Template != nil && !*c.Template, RebuildTemplate: c.Rebuild}
	if c.Rebuild && o.Pull == "" {
		o.Pull = bandsox.PullAlways
	}
	return o
}

// NewCreateVM is how a client asks for what o says.
func NewCreateVM(o bandsox.CreateOptions) CreateVM {
	c := CreateVM{Image: o.Image, Name: o.Name, VCPU: o.VCPU, MemMiB: o.MemMiB, DiskSizeMiB: o.DiskSizeMiB,
		Env: o.Env, Metadata: o.Metadata, Labels: o.Labels, Pull: o.Pull, AutoRemove: o.AutoRemove,
		TTL: SecondsOf(o.TTL), IdleTimeout: SecondsOf(o.IdleTimeout), IdleAction: o.IdleAction, Rebuild: o.RebuildTemplate}
	if o.NoTemplate {
		c.Template = new(bool)
	}
	if c.Rebuild && c.Pull == "" {
		c.Pull = bandsox.PullMissing // a template is no reason to look for another image
	}
	return c
}

// UpdateVM changes what is given; the rest stays.
type UpdateVM struct {
	Name            *string             `json:"name,omitempty" doc:"Empty takes it away"`
	Metadata        map[string]any      `json:"metadata,omitempty" doc:"Merged, as RFC 7396 has it: null takes a key away"`
	ReplaceMetadata bool                `json:"replace_metadata,omitempty" doc:"Metadata takes the place of what is there instead"`
	Labels          map[string]*string  `json:"labels,omitempty" doc:"Merged: null takes a label away"`
	Env             map[string]*string  `json:"env_vars,omitempty" doc:"Merged: null takes a variable away"`
	TTL             *Seconds            `json:"ttl,omitempty" doc:"Seconds from now; 0: it lives for good"`
	IdleTimeout     *Seconds            `json:"idle_timeout,omitempty" doc:"Seconds; 0: it may be idle for ever"`
	IdleAction      *bandsox.IdleAction `json:"idle_action,omitempty" enum:"stop,pause,delete"`
	DiskSizeMiB     *int                `json:"disk_size_mib,omitempty" doc:"It can grow, also while it runs"`
}

// Update is what the library is asked for.
func (u UpdateVM) Update() bandsox.Update {
	return bandsox.Update{Name: u.Name, Metadata: u.Metadata, ReplaceMetadata: u.ReplaceMetadata, Labels: u.Labels, Env: u.Env,
		TTL: durationOf(u.TTL), IdleTimeout: durationOf(u.IdleTimeout), IdleAction: u.IdleAction, DiskSizeMiB: u.DiskSizeMiB}
}

// NewUpdateVM is how a client asks for what u says.
func NewUpdateVM(u bandsox.Update) UpdateVM {
	return UpdateVM{Name: u.Name, Metadata: u.Metadata, ReplaceMetadata: u.ReplaceMetadata, Labels: u.Labels, Env: u.Env,
		TTL: secondsOf(u.TTL), IdleTimeout: secondsOf(u.IdleTimeout), IdleAction: u.IdleAction, DiskSizeMiB: u.DiskSizeMiB}
}

// Rename asks for another name.
type Rename struct {
	_    struct{} `json:"-" additionalProperties:"true"`
	Name string   `json:"name"`
}

// SetMetadata asks for other metadata in place of what is there.
type SetMetadata struct {
	_        struct{}       `json:"-" additionalProperties:"true"`
	Metadata map[string]any `json:"metadata"`
}

// Seconds is a length of time as the API has it.
type Seconds float64

// SecondsOf is d in seconds.
func SecondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// Duration is s as Go has it; what doesn't fit is the longest there is.
func (s Seconds) Duration() time.Duration {
	const longest = 1<<63 - 1
	switch d := float64(s) * float64(time.Second); {
	case d >= longest:
		return longest
	case d <= -longest:
		return -longest
	default:
		return time.Duration(d)
	}
}

func secondsOf(d *time.Duration) *Seconds {
	if d == nil {
		return nil
	}
	s := SecondsOf(*d)
	return &s
}

func durationOf(s *Seconds) *time.Duration {
	if s == nil {
		return nil
	}
	d := s.Duration()
	return &d
}

// Progress is how far a long request has come: an event of its stream.
type Progress struct {
	What  string `json:"what"`
	Done  int64  `json:"done"`
	Total int64  `json:"total" doc:"0: not known"`
}

// JSON is v, which is one of ours and can't fail.
func JSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
