package bandsox

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Status is how a check of [Doctor] came out.
type Status string

// The outcomes of a check.
const (
	StatusOK      Status = "ok"
	StatusWarning Status = "warning" // something optional isn't there, or is short
	StatusMissing Status = "missing" // something that sandboxes need isn't there
)

// Check is one thing that [Doctor] looked at.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was found
	Why    string `json:"why"`           // what BandSox wants it for
	Fix    string `json:"fix,omitempty"` // the command to type, unless all is well
}

// DriverReport is what can run machines here.
type DriverReport struct {
	Name    string `json:"name"`
	Works   bool   `json:"works"`
	Version string `json:"version,omitempty"`
	Accel   string `json:"accel,omitempty"` // "kvm" or "tcg"
	Reason  string `json:"reason,omitempty"`
}

// Report is what [Doctor] found out about this host.
type Report struct {
	OK      bool           `json:"ok"` // a driver can run sandboxes here
	Arch    string         `json:"arch"`
	Storage string         `json:"storage"` // the state directory that was looked at
	Drivers []DriverReport `json:"drivers"` // the one that will be used first
	Checks  []Check        `json:"checks"`
}

// DoctorOptions says what to look at. The zero value is right for most.
type DoctorOptions struct {
	Storage  string // the state directory; default as in Config
	Registry string // the registry to reach; default index.docker.io
	Docker   string // the docker daemon's socket; default DOCKER_HOST, else /var/run/docker.sock
}

// doctorTime bounds every check. KVM takes the longest to prove, and a registry
// that doesn't answer must not keep anyone waiting.
const doctorTime = 2500 * time.Millisecond

// Doctor finds out what this host can do, by trying it. It changes nothing, it
// makes no state directory, and what is missing is in the report: an error is
// only about not being able to look at all.
func Doctor(ctx context.Context, o DoctorOptions) (Report, error) {
	var err error
	if o.Storage, err = stateDir(o.Storage); err != nil {
		return Report{}, fail("doctor", "", err)
	}
	if o.Registry == "" {
		o.Registry = "index.docker.io"
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()

	h := &host{o: o}
	r := Report{Arch: Arch, Storage: o.Storage, Checks: h.run(ctx)}
	if err := context.Cause(ctx); err != nil && err != context.DeadlineExceeded {
		return Report{}, fail("doctor", "", err)
	}
	r.Drivers = h.drivers(r.Checks)
	for _, d := range r.Drivers {
		r.OK = r.OK || d.Works
	}
	// One driver is enough.
	for i, c := range r.Checks {
		if c.Name == "qemu" && c.Status == StatusMissing && r.OK {
			r.Checks[i].Status = StatusWarning
		}
	}
	return r, nil
}

// missing reports whether something that sandboxes need isn't there.
func (r Report) missing() bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Status == StatusMissing })
}

// WriteText writes the report for a person: a line a check, and under those
// that aren't well why it matters and what to type.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-8s %-12s %s\n", c.Status, c.Name, c.Detail)
		if c.Status == StatusOK {
			continue
		}
		fmt.Fprintf(&b, "%21s why: %s\n", "", c.Why)
		if c.Fix != "" {
			fmt.Fprintf(&b, "%21s fix: %s\n", "", c.Fix)
		}
	}
	b.WriteByte('\n')
	for _, d := range r.Drivers {
		if d.Works {
			when := "Sandboxes will run"
			if r.missing() {
				when = "Once what is missing is there, sandboxes will run"
			}
			fmt.Fprintf(&b, "%s on %s %s with %s, in %s.\n", when, d.Name, d.Version, d.Accel, r.Storage)
			break
		}
	}
	if !r.OK {
		b.WriteString("No sandbox can run here yet: see what is missing above.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
