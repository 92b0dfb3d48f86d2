package bandsox

import (
	"encoding/json"
	"math"
	"time"

	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/vm"
)

// Info is all there is to know of a sandbox: it is the record on disk and the
// object of the API.
type Info struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Image       string            `json:"image"`
	Digest      string            `json:"digest"`
	VCPU        int               `json:"vcpu"`
	MemMiB      int               `json:"mem_mib"`
	DiskSizeMiB int               `json:"disk_size_mib"`
	CreatedAt   Epoch             `json:"created_at"`
	Status      State             `json:"status"`
	Reason      string            `json:"reason,omitempty"` // why it is failed, or was stopped or paused by itself
	Env         map[string]string `json:"env_vars,omitempty"`
	Metadata    map[string]any    `json:"metadata"`
	Labels      map[string]string `json:"labels,omitempty"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero"` // when it is deleted, whatever it does then
	IdleTimeout time.Duration     `json:"idle_timeout_ns,omitempty"`
	IdleAction  IdleAction        `json:"idle_action,omitempty"`
	LastUsed    time.Time         `json:"last_used_at,omitzero"` // where IdleTimeout is set; it may be used until that much later
	AutoResume  bool              `json:"auto_resume,omitempty"` // paused for being idle: its next use resumes it
	Doing       string            `json:"doing,omitempty"`       // start, stop or kill, while it is under way
	Config      image.Config      `json:"config"`                // of the image
	Kernel      string            `json:"kernel,omitempty"`      // digest
	PID         int               `json:"pid,omitempty"`         // of the machine's process
	Machine     *vm.Handle        `json:"machine,omitempty"`
	AutoRemove  bool              `json:"auto_remove,omitempty"`
	Owner       string            `json:"owner,omitempty"` // the id of the API key that made it, if one did
	AgentReady  bool              `json:"agent_ready,omitempty"`
	// RestoredFrom is the snapshot that it was made from, Parent the sandbox that it
	// was forked from. Snapshot is the one it was at last: made from it, rolled back
	// to it, or taken of it since.
	RestoredFrom string  `json:"restored_from,omitempty"`
	Parent       string  `json:"parent,omitempty"`
	Snapshot     string  `json:"snapshot,omitempty"`
	Template     string  `json:"template,omitempty"` // the template that its last start was a restore of
	Phases       []Phase `json:"phases,omitempty"`   // of the last start, in order
}

// ImageConfig is what an image says of how it wants to be run.
type ImageConfig = image.Config

// Phase is one step of a create and the time it took.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"ns"`
}

// Epoch is a time that travels as seconds since 1970 with a fraction, as the
// reference's API has it.
type Epoch struct{ time.Time }

// MarshalJSON writes seconds, to the microsecond.
func (e Epoch) MarshalJSON() ([]byte, error) {
	if e.IsZero() {
		return []byte("0"), nil
	}
	return json.Marshal(float64(e.UnixMicro()) / 1e6)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Epoch) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f == 0 {
		*e = Epoch{}
		return nil
	}
	e.Time = time.UnixMicro(int64(math.Round(f * 1e6)))
	return nil
}

func epochMicro(n int64) Epoch { return Epoch{time.UnixMicro(n)} }

// phases is a stopwatch for the steps of one operation.
type phases struct {
	list []Phase
	last time.Time
}

func newPhases() *phases { return &phases{last: time.Now()} }

func (p *phases) done(name string) {
	now := time.Now()
	p.list = append(p.list, Phase{name, now.Sub(p.last)})
	p.last = now
}
