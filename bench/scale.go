package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// benchScale measures a manager of many sandboxes. What runs in them doesn't
// count here, so it is the tests' process fake: their benchmark is run.
func benchScale(ctx context.Context, r *report) error {
	got, err := tests(ctx, "BenchmarkScale", ".", "-benchtime", "1x")
	if err != nil {
		return err
	}
	rows := []struct{ metric, what, unit, bar string }{
		{"open-s", "open, 1,000 stopped sandboxes", "s", "<= 1 s"},
		{"list-ms", "list, 1,000 stopped sandboxes", "ms", "<= 10 ms"},
		{"stopped-MB", "manager resident, 1,000 stopped", "MB", "<= 40 MB"},
		{"MB/running", "manager resident, a running one more", "MB", "<= 0.2 MB"},
		{"goroutines", "manager's goroutines, 1,000 stopped", "", ""},
		{"goroutines/running", "goroutines, a running one more", "", ""},
	}
	for _, x := range rows {
		v, ok := got[x.metric]
		if !ok {
			return fmt.Errorf("the tests' benchmark says nothing of %s", x.metric)
		}
		r.add(row{What: x.what, Unit: x.unit, Ours: v, Bar: x.bar, Runs: 1})
	}
	return nil
}

// metrics reads what a benchmark reported: pairs of value and unit.
func metrics(out string) map[string]float64 {
	m := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				m[f[i+1]] = v
			}
		}
	}
	return m
}
