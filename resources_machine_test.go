package bandsox

import (
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/disk"
)

// TestFiguresAndGrowthOfAMachine grows the disk of a real machine while it is
// written to, and again while it is off.
func TestFiguresAndGrowthOfAMachine(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	sb := create(t, m, CreateOptions{Image: image, DiskSizeMiB: 64})
	ctx := t.Context()
	before, err := sb.Stats(ctx)
	if err != nil || !before.Guest || before.CPUSeconds <= 0 || before.MemUsed <= 0 || before.MemUsed >= before.MemLimit ||
		before.MemHost <= 0 || before.DiskTotal <= 0 || before.DiskTotal > 64<<20 || before.DiskHost <= 0 || before.UptimeSeconds <= 0 {
		t.Errorf("at first: %+v %v", before, err)
	}
	busy := sb.Shell("i=0; while :; do i=$((i+1)); echo $i >/f; done")
	if err := busy.Start(ctx); err != nil {
		t.Fatal(err)
	}
	size := 1024
	if err := sb.Update(ctx, Update{DiskSizeMiB: &size}); err != nil {
		t.Fatal(err)
	}
	if err := sb.Shell("head -c 60000000 /dev/zero >/big && sync").Run(ctx); err != nil { // more than there was
		t.Error(err)
	}
	during, err := sb.Stats(ctx)
	if err != nil || during.CPUPercent <= 0 || during.Processes < 1 || during.CPUSeconds <= before.CPUSeconds ||
		during.DiskUsed < 60_000_000 || during.DiskTotal < 900<<20 || during.DiskHost < 60_000_000 {
		t.Errorf("busy: %+v %v", during, err)
	}
	if err := busy.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = busy.Wait(ctx)
	check := func() {
		t.Helper()
		if err := sb.Stop(ctx, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := disk.Check(ctx, m.store.Disk(sb.ID())); err != nil {
			t.Error(err)
		}
	}
	check()
	size = 2048
	if err := sb.Update(ctx, Update{DiskSizeMiB: &size}); err != nil {
		t.Fatal(err)
	}
	if err := sb.Start(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := sb.Shell("df -m / | tail -1; wc -c </big").Output(ctx)
	if err != nil || !strings.HasSuffix(string(out), "60000000\n") {
		t.Errorf("%s %v", out, err)
	}
	after, err := sb.Stats(ctx)
	if err != nil || after.DiskTotal < 1900<<20 {
		t.Errorf("after a start: %+v %v", after, err)
	}
	check()
}
