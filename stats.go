package bandsox

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// Stats are live figures of a sandbox. Sizes are bytes.
type Stats struct {
	Time   time.Time `json:"time"`
	ID     string    `json:"id"`
	Name   string    `json:"name,omitempty"`
	Status State     `json:"status"`
	// Guest says that the guest was asked and answered. One that is paused or
	// hangs can't: then there are the host's figures alone.
	Guest bool `json:"guest"`

	// CPUPercent is of one of the host's processors, since the figures were
	// asked for before: 200 is two of them. At first it is that of the whole life.
	CPUPercent float64 `json:"cpu_percent"`
	CPUSeconds float64 `json:"cpu_seconds"` // of the machine's process, since it started
	VCPU       int     `json:"vcpu"`
	Load       float64 `json:"load"` // the guest's, of the last minute

	MemUsed   int64 `json:"mem_used"` // as the guest has it; without it, MemHost
	MemCached int64 `json:"mem_cached"`
	MemLimit  int64 `json:"mem_limit"`
	MemHost   int64 `json:"mem_host"`  // what the machine's process takes of the host's
	AgentRSS  int64 `json:"agent_rss"` // of MemUsed, what our own agent takes

	DiskUsed  int64 `json:"disk_used"`
	DiskTotal int64 `json:"disk_total"`
	DiskHost  int64 `json:"disk_host"` // what its file takes of the host's

	NetRx int64 `json:"net_rx"` // 0: sandboxes have no network yet
	NetTx int64 `json:"net_tx"`

	Processes     int     `json:"processes"` // and threads, of all that was started in it
	UptimeSeconds float64 `json:"uptime_seconds"`
}

// statsPatience is how long a guest has to say its figures.
const statsPatience = 5 * time.Second

// Stats returns live figures of a running or paused sandbox. It costs one
// exchange with the agent and a few reads of /proc, and is no use of the
// sandbox: it wakes nobody.
func (sb *Sandbox) Stats(ctx context.Context) (Stats, error) {
	info, err := sb.fresh(ctx)
	if err != nil {
		return Stats{}, fail("stats", sb.id, err)
	}
	if info.Status != StateRunning && info.Status != StatePaused || info.Machine == nil {
		return Stats{}, fail("stats", sb.id, sb.refuse(opLook, info.Status))
	}
	host, ok := readProcess(*info.Machine)
	if !ok {
		return Stats{}, fail("stats", sb.id, wire.Errorf(CodeUnavailable, "the machine of sandbox %s has just ended", sb.id))
	}
	s := Stats{Time: time.Now(), ID: info.ID, Name: info.Name, Status: info.Status, VCPU: info.VCPU,
		CPUSeconds: host.cpu.Seconds(), UptimeSeconds: host.age.Seconds(),
		MemUsed: host.rss, MemHost: host.rss, MemLimit: int64(info.MemMiB) << 20, DiskTotal: int64(info.DiskSizeMiB) << 20}
	s.CPUPercent = sb.cpuPercent(*info.Machine, host)
	if _, s.DiskHost, err = disk.Usage(sb.m.store.Disk(sb.id)); err != nil {
		return Stats{}, fail("stats", sb.id, err)
	}
	if info.Status == StateRunning {
		if guest, err := sb.askStats(ctx); err == nil {
			s.guest(guest)
		} else if ctx.Err() != nil {
			return Stats{}, fail("stats", sb.id, context.Cause(ctx))
		}
	}
	return s, nil
}

// askStats asks the agent, past whatever is being done to the sandbox if there
// is a connection.
func (sb *Sandbox) askStats(ctx context.Context) (wire.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, statsPatience)
	defer cancel()
	sb.mu.Lock()
	client := sb.client
	sb.mu.Unlock()
	if client != nil {
		if s, err := client.Stats(ctx); err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	client, err := sb.peek(ctx)
	if err != nil {
		return wire.Stats{}, err
	}
	return client.Stats(ctx)
}

// guest takes what the guest says of itself, as far as it can be true.
func (s *Stats) guest(g wire.Stats) {
	s.Guest = true
	s.Load = max(0, g.LoadAverage)
	s.MemUsed = min(max(0, g.MemTotal-g.MemAvailable), s.MemLimit)
	s.MemCached = min(max(0, g.MemCached), s.MemLimit)
	s.AgentRSS = min(max(0, g.AgentRSS), s.MemLimit)
	s.DiskTotal = min(max(0, g.DiskTotal), s.DiskTotal)
	s.DiskUsed = min(max(0, g.DiskTotal-g.DiskFree), s.DiskTotal)
	if s.Processes = max(0, g.Tasks); s.Processes == 0 {
		s.Processes = max(0, g.Processes)
	}
}

// sample is the last figures that a percentage was made of.
type sample struct {
	of      vm.Handle
	at      time.Time
	cpu     time.Duration
	percent float64
}

// minSample is the shortest time that a percentage is made over: several
// readers at once see the same.
const minSample = 200 * time.Millisecond

func (sb *Sandbox) cpuPercent(of vm.Handle, now processUsage) float64 {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	last := &sb.sample
	over, used := now.at.Sub(last.at), now.cpu-last.cpu
	switch {
	case last.of != of:
		over, used = now.age, now.cpu
	case over < minSample:
		return last.percent
	}
	percent := 0.0
	if over > 0 {
		percent = 100 * max(0, used.Seconds()) / over.Seconds()
	}
	*last = sample{of: of, at: now.at, cpu: now.cpu, percent: percent}
	return percent
}

// processUsage is what a machine's process takes of the host.
type processUsage struct {
	at  time.Time
	age time.Duration
	cpu time.Duration
	rss int64
}

// tick is the unit of time in /proc: USER_HZ is 100 on every architecture we
// run on.
const tick = 10 * time.Millisecond

// readProcess reads /proc; not ok when the process is gone.
func readProcess(h vm.Handle) (u processUsage, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(h.PID) + "/stat")
	if err != nil {
		return u, false
	}
	// From the third field on: the second may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 22 {
		return u, false
	}
	num := func(i int) int64 { n, _ := strconv.ParseInt(f[i-3], 10, 64); return n }
	if uint64(num(22)) != h.StartTime {
		return u, false
	}
	u.at = time.Now()
	u.cpu = time.Duration(num(14)+num(15)) * tick
	u.rss = num(24) * int64(os.Getpagesize())
	if up, err := os.ReadFile("/proc/uptime"); err == nil {
		seconds, _, _ := strings.Cut(string(up), " ")
		if s, err := strconv.ParseFloat(seconds, 64); err == nil {
			u.age = max(0, time.Duration(s*float64(time.Second))-time.Duration(h.StartTime)*tick)
		}
	}
	return u, true
}
