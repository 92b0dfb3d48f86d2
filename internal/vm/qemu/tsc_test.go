package qemu

import "testing"

// TestTSC: two rates measured apart agree, so a guest's clock will too.
func TestTSC(t *testing.T) {
	if !hasTSC {
		t.Skip("needs amd64")
	}
	first := measureTSC()
	again := measureTSC()
	t.Logf("%d kHz, then %d", first, again)
	if first < 100_000 || first > 10_000_000 {
		t.Fatalf("%d kHz is no rate of a CPU", first)
	}
	// A thousandth: the kernel's own limit for a calibration that it takes.
	if d := int64(first) - int64(again); d > int64(again/1000) || -d > int64(again/1000) {
		t.Errorf("%d kHz at first, %d kHz later", first, again)
	}
}
