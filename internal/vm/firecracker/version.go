package firecracker

import (
	"fmt"
	"regexp"
	"strconv"
)

// version is a Firecracker's: major, minor, patch. What is built between two
// releases calls itself 1.17.0-dev: it has most of what 1.17 will have.
type version [3]int

var versionWords = regexp.MustCompile(`^v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$`)

func parseVersion(s string) (v version, err error) {
	m := versionWords.FindStringSubmatch(s)
	if m == nil {
		return v, fmt.Errorf("%q is no version of Firecracker", s)
	}
	for i := range v {
		if v[i], err = strconv.Atoi(m[i+1]); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

func (v version) before(o version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

// oldest is the first version that this driver is made for.
var oldest = version{1, 13, 0}

// fields are what later versions than the oldest brought, by request and field.
// A Firecracker refuses what it doesn't know, so it isn't sent to one.
var fields = map[string]version{
	"/serial":                       {1, 14, 0},
	"/serial rate_limiter":          {1, 16, 0},
	"/pmem":                         {1, 14, 0},
	"/pmem rate_limiter":            {1, 16, 0},
	"/hotplug/memory":               {1, 14, 0},
	"/balloon free_page_hinting":    {1, 14, 0},
	"/balloon free_page_reporting":  {1, 14, 0},
	"/network-interfaces mtu":       {1, 16, 0},
	"/metrics emit_id":              {1, 17, 0},
	"/metrics properties":           {1, 17, 0},
	"/snapshot/load clock_realtime": {1, 14, 4},
	"/snapshot/load vsock_override": {1, 16, 0},
	"/snapshot/load huge_pages":     {1, 17, 0},
}

// trap is something that a range of versions does wrong, or otherwise than the
// rest, and that the driver has a way around. Each is looked at in one place.
type trap struct {
	from, before version
	what         string
}

func (t trap) in(v version) bool { return !v.before(t.from) && v.before(t.before) }

// deafAfterResume: the interface's own pause and resume, without a snapshot
// between, leave the guest without what the host sends by vsock, for good. There
// the process is stopped instead: the guest stands still as well.
var deafAfterResume = trap{version{1, 16, 0}, version{1, 17, 0}, "vsock from the host is dead after pause and resume"}

// silentOnce: the first connection after a restore is never answered, the next is.
// So no attempt is waited for longer than it needs to.
var silentOnce = trap{version{}, version{1, 16, 0}, "the first vsock connection after a restore hangs"}

// deafAfterRestore: vsock is dead for good after a restore.
var deafAfterRestore = trap{version{1, 16, 0}, version{1, 16, 1}, "vsock is dead after a restore"}
