package qemu

import (
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An emulated guest's time stamp counter is the host's. Its kernel can't find
// out how fast it runs without a timer chip: under load it measures nonsense
// and waits for ever in its delay loop. So the host measures, and tells it.

// tscSample is the counter and the clock at one instant.
type tscSample struct {
	tsc   uint64
	clock int64 // CLOCK_MONOTONIC_RAW, nanoseconds: never slewed
}

// sampleTSC reads both clocks as close together as a few tries allow.
func sampleTSC() tscSample {
	var best tscSample
	width := uint64(math.MaxUint64)
	for range 16 {
		before := rdtsc()
		var ts unix.Timespec
		if unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts) != nil {
			return tscSample{}
		}
		after := rdtsc()
		if w := after - before; w < width {
			width, best = w, tscSample{before + w/2, ts.Nano()}
		}
	}
	return best
}

// tscWindow is the time between two samples: good to 100 ns each, they make an
// error of 5 ppm at worst. It is short because the counter may jump when the
// host sleeps, so the measurement is made once and not over a process's life.
const tscWindow = 40 * time.Millisecond

// TSCKHz is the rate of the host's time stamp counter, or 0 if it has none: what
// an emulated guest's kernel is to be told as tsc_early_khz.
func TSCKHz() uint64 { return tscKHz() }

var tscKHz = sync.OnceValue(measureTSC)

func measureTSC() uint64 {
	if !hasTSC {
		return 0
	}
	first := sampleTSC()
	time.Sleep(tscWindow)
	last := sampleTSC()
	ticks, ns := last.tsc-first.tsc, last.clock-first.clock
	if ns <= 0 {
		return 0
	}
	return uint64(math.Round(float64(ticks) / float64(ns) * 1e6))
}
