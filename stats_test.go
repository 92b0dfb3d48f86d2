package bandsox

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

func TestStats(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{Name: "box"})
	ctx := t.Context()
	s, err := sb.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Guest || s.ID != sb.ID() || s.Name != "box" || s.Status != StateRunning || s.VCPU != 1 || s.MemLimit != DefaultMemMiB<<20 ||
		s.MemHost <= 0 || s.MemUsed <= 0 || s.DiskTotal <= 0 || s.DiskTotal > DefaultDiskSizeMiB<<20 || s.DiskHost <= 0 ||
		s.CPUPercent < 0 || s.UptimeSeconds < 0 || s.NetRx != 0 {
		t.Errorf("running: %+v", s)
	}
	if err := sb.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := sb.Stats(ctx)
	if err != nil || p.Guest || p.Status != StatePaused || p.MemUsed != p.MemHost || p.MemHost <= 0 || p.CPUSeconds < s.CPUSeconds {
		t.Errorf("paused: %+v %v", p, err)
	}
	if info, _ := sb.Info(ctx); info.Status != StatePaused {
		t.Errorf("looking at it made it %s", info.Status)
	}
	if err := sb.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Stats(ctx); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("stopped: %v", err)
	}
}

// TestStatsOfOneThatHangs has only the host's figures, after a while.
func TestStatsOfOneThatHangs(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for a guest that says nothing")
	}
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	if err := sb.current().Pause(t.Context()); err != nil { // behind the manager's back
		t.Fatal(err)
	}
	if s, err := sb.Stats(t.Context()); err != nil || s.Guest || s.MemHost <= 0 {
		t.Errorf("%+v %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sb.Stats(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCPUPercent(t *testing.T) {
	t.Parallel()
	sb := &Sandbox{}
	start, h := time.Now(), vm.Handle{PID: 1}
	for i, c := range []struct {
		of      vm.Handle
		at, cpu time.Duration
		want    float64
	}{
		{h, 0, time.Second, 10},                       // of its life, which was 10 s
		{h, time.Second, 2 * time.Second, 100},        // one processor
		{h, time.Second + 1, 3 * time.Second, 100},    // too soon: the same again
		{h, 2 * time.Second, 4 * time.Second, 200},    // two
		{h, 3 * time.Second, 4 * time.Second, 0},      // idle
		{vm.Handle{PID: 2}, 4 * time.Second, 0, 0},    // another machine
		{vm.Handle{PID: 2}, 6 * time.Second, 1e9, 50}, // half of one
		{vm.Handle{PID: 2}, 5 * time.Second, 2e9, 50}, // the clock went back
	} {
		got := sb.cpuPercent(c.of, processUsage{at: start.Add(c.at), cpu: c.cpu, age: 10 * time.Second})
		if math.Abs(got-c.want) > 0.01 {
			t.Errorf("%d: got %v, want %v", i, got, c.want)
		}
	}
}

// TestGuestsFiguresAreBounded: a guest may say anything.
func TestGuestsFiguresAreBounded(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{math.MaxInt64, math.MinInt64, -1} {
		s := Stats{MemLimit: 100, DiskTotal: 1000}
		s.guest(wire.Stats{MemTotal: n, MemAvailable: -n, MemCached: n, DiskTotal: n, DiskFree: -n, Tasks: int(n), Processes: int(n), LoadAverage: float64(n)})
		if s.MemUsed < 0 || s.MemUsed > 100 || s.MemCached < 0 || s.MemCached > 100 || s.DiskUsed < 0 || s.DiskUsed > s.DiskTotal ||
			s.DiskTotal < 0 || s.DiskTotal > 1000 || s.Processes < 0 || s.Load < 0 {
			t.Errorf("%d: %+v", n, s)
		}
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, dir)
	image := testImage(t)
	total, available := hostMemory()
	if total <= 0 || available <= 0 || available > total {
		t.Fatalf("this host has %d of %d bytes", available, total)
	}
	refused := func(o CreateOptions, want error, says string) {
		t.Helper()
		o.Image = image
		if _, err := m.Create(t.Context(), o); !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if too := int(total>>20) + 1; too <= maxMemMiB {
		refused(CreateOptions{MemMiB: too}, ErrExhausted, "this host has")
	}
	m.cfg.MemoryOvercommit = float64(200<<20) / float64(available) // 200 MiB to promise
	sb := create(t, m, CreateOptions{Image: image, MemMiB: 128})
	refused(CreateOptions{MemMiB: 1024}, ErrExhausted, "running sandboxes may still take")
	for _, do := range []func() error{
		func() error { return sb.Stop(t.Context(), 0) },
		func() error { return sb.Start(t.Context()) }, // its own memory is not counted against it
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := sb.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	m.cfg.MemoryOvercommit = 1e-9
	if err := sb.Start(t.Context()); !errors.Is(err, ErrExhausted) {
		t.Errorf("starting: %v", err)
	}
	if s := sb.state(); s != StateStopped {
		t.Errorf("refusing to start it made it %s", s)
	}
	if err := sb.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, dir)
}

func TestGrowingADisk(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{DiskSizeMiB: 128})
	ctx := t.Context()
	has := func(mib int) {
		t.Helper()
		info, _ := sb.Info(ctx)
		size, _, err := disk.Usage(m.store.Disk(sb.ID()))
		if err != nil || info.DiskSizeMiB != mib || size != int64(mib)<<20 {
			t.Errorf("the record has %d MiB, the file %d, want %d; %v", info.DiskSizeMiB, size>>20, mib, err)
		}
	}
	grow := func(mib int) error { return sb.Update(ctx, Update{DiskSizeMiB: &mib}) }
	for _, mib := range []int{256, 256} {
		if err := grow(mib); err != nil {
			t.Fatal(err)
		}
		has(256)
	}
	for mib, want := range map[int]error{128: ErrInvalid, 0: ErrInvalid, disk.MaxSizeMiB + 1: ErrInvalid} {
		if err := grow(mib); !errors.Is(err, want) {
			t.Errorf("%d MiB: %v", mib, err)
		}
	}
	if err := sb.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := grow(512); !errors.Is(err, ErrConflict) {
		t.Errorf("paused: %v", err)
	}
	has(256)
	if err := sb.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := grow(512); err != nil {
		t.Fatal(err)
	}
	has(512)
	// One who dies between record and file leaves the rest to the next start.
	if err := sb.save(ctx, func(i *Info) { i.DiskSizeMiB = 1024 }); err != nil {
		t.Fatal(err)
	}
	if err := sb.Start(ctx); err != nil {
		t.Fatal(err)
	}
	has(1024)
	var told []string
	for e, err := range m.PastEvents(ctx, 0) {
		if err == nil && e.Type == EventUpdated {
			told = append(told, e.Details["changed"])
		}
	}
	if strings.Join(told, " ") != "disk_size_mib disk_size_mib disk_size_mib" {
		t.Errorf("events: %v", told)
	}
}

// BenchmarkStats is what a look at one sandbox costs, agent included.
func BenchmarkStats(b *testing.B) {
	m, err := openFake(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	sb, err := m.Create(b.Context(), CreateOptions{Image: "dir:" + dir})
	if err != nil {
		b.Skip(err)
	}
	defer m.Close()
	defer sb.Delete(context.WithoutCancel(b.Context()))
	for b.Loop() {
		if _, err := sb.Stats(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
