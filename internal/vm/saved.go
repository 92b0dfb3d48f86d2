package vm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"sync"

	"github.com/bandsox/bandsox/internal/wire"
)

// The files of a saved machine, in the directory it was saved into.
const (
	SavedState  = "state"  // of its devices and CPUs: the driver's own format
	SavedMemory = "memory" // all of its memory, flat, with holes where it is zero
)

// Saved is what a machine must match to be restored from the files of another:
// what each was when that one was saved.
type Saved struct {
	Driver  string `json:"driver"`
	Version string `json:"version"` // of its program
	Accel   string `json:"accel"`
	CPU     string `json:"cpu"`   // what the guest was shown of the processor
	Shape   string `json:"shape"` // how the driver arranges its devices
}

// Fits says which part of what was saved differs from what is there now: a
// conflict, or nil.
func (s Saved) Fits(now Saved) error {
	for _, part := range []struct{ what, was, is string }{
		{"driver", s.Driver, now.Driver},
		{"version of " + s.Driver, s.Version, now.Version},
		{"accelerator", s.Accel, now.Accel},
		{"processor", s.CPU, now.CPU},
		{"arrangement of devices", s.Shape, now.Shape},
	} {
		if part.was != part.is {
			return wire.Errorf(wire.Conflict, "it was saved with another %s: %q, and here it is %q", part.what, part.was, part.is)
		}
	}
	return nil
}

// HostCPU names this host's processor and condenses what it can do: a guest that
// was shown one can't go on under another.
var HostCPU = sync.OnceValue(func() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	one, _, _ := bytes.Cut(text, []byte("\n\n"))
	name, sum := "unknown", sha256.New()
	for line := range bytes.Lines(one) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		switch key, value := string(bytes.TrimSpace(key)), bytes.TrimSpace(value); key {
		case "model name":
			name = string(value)
		case "vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU implementer", "CPU part", "CPU variant":
			fmt.Fprintf(sum, "%s=%s\n", key, value)
		}
	}
	return name + " " + hex.EncodeToString(sum.Sum(nil)[:6])
})
