package guest

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// ticks is the kernel's USER_HZ, the same on every architecture we run on.
const ticks = 100

// readKernel reads a small file of /proc or /sys.
func readKernel(path string) []byte {
	b, _ := os.ReadFile(path)
	return b
}

// memory returns the guest's memory in bytes: all of it, and what can be had.
func memory() (total, available int64) {
	total, available, _ = memoryInfo()
	return total, available
}

func memoryInfo() (total, available, cached int64) {
	for line := range strings.Lines(string(readKernel("/proc/meminfo"))) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		case "Cached:", "Buffers:", "SReclaimable:":
			cached += kib << 10
		}
	}
	return total, available, cached
}

func (s *service) stats() wire.Stats {
	var st wire.Stats
	st.UptimeSeconds = float(field(readKernel("/proc/uptime"), 0))
	st.LoadAverage = float(field(readKernel("/proc/loadavg"), 0))
	st.MemTotal, st.MemAvailable, st.MemCached = memoryInfo()
	var fs unix.Statfs_t
	if unix.Statfs(s.path("/"), &fs) == nil {
		st.DiskTotal = int64(fs.Blocks) * int64(fs.Bsize)
		st.DiskFree = int64(fs.Bavail) * int64(fs.Bsize)
	}
	// cpu user nice system idle iowait irq softirq steal …
	cpu := strings.Fields(line(readKernel("/proc/stat")))
	for i, f := range cpu {
		if i >= 1 && i <= 7 && i != 4 && i != 5 {
			st.CPUSeconds += float(f) / ticks
		}
	}
	pages, _ := strconv.ParseInt(field(readKernel("/proc/self/statm"), 1), 10, 64)
	st.AgentRSS = pages * int64(os.Getpagesize())
	if s.cgroups != nil {
		st.Tasks, _ = strconv.Atoi(field(readKernel(s.cgroups.dir+"/pids.current"), 0))
	}
	s.mu.Lock()
	st.Processes = len(s.procs) - len(s.ended)
	s.mu.Unlock()
	return st
}

func line(b []byte) string {
	first, _, _ := strings.Cut(string(b), "\n")
	return first
}

func field(b []byte, i int) string {
	f := strings.Fields(line(b))
	if i < len(f) {
		return f[i]
	}
	return ""
}

func float(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}
