package bandsox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/store"
)

// scaleEnv has this program open a directory, look at it and print figures.
const scaleEnv = "BANDSOX_TEST_SCALE"

const scaleRecords = 1000

// figures of a manager of many sandboxes: make bench shows them.
type figures struct {
	Open, List time.Duration
	RSS        int64 // bytes
	Goroutines int
	Sandboxes  int
}

// BenchmarkScale measures a manager, in a process of its own, of 1,000 stopped
// sandboxes, and then of some that run too.
func BenchmarkScale(b *testing.B) {
	dir := b.TempDir()
	fillWithRecords(b, dir, scaleRecords)
	for b.Loop() {
		f := measure(b, dir)
		b.ReportMetric(f.Open.Seconds(), "open-s")
		b.ReportMetric(f.List.Seconds()*1000, "list-ms")
		b.ReportMetric(float64(f.RSS)/1e6, "stopped-MB")
		const running = 50
		stop := runSome(b, dir, running)
		g := measure(b, dir)
		stop()
		b.ReportMetric(float64(g.RSS-f.RSS)/1e6/running, "MB/running")
		b.ReportMetric(float64(g.Goroutines-f.Goroutines)/running, "goroutines/running")
		b.ReportMetric(float64(f.Goroutines), "goroutines")
	}
	b.ReportMetric(0, "ns/op")
}

// TestScale: a list of many sandboxes reads no file and asks no machine, and a
// stopped sandbox costs no goroutine.
func TestScale(t *testing.T) {
	dir := t.TempDir()
	fillWithRecords(t, dir, scaleRecords)
	m, err := openFake(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if n := runtime.NumGoroutine(); n > 100 {
		t.Errorf("%d goroutines for %d stopped sandboxes", n, scaleRecords)
	}
	reads := syscalls(t)
	list, err := m.List(t.Context(), ListOptions{})
	if err != nil || len(list) != scaleRecords {
		t.Fatalf("%d sandboxes: %v", len(list), err)
	}
	if n := syscalls(t) - reads; n > 100 {
		t.Errorf("a list of %d sandboxes read %d times", scaleRecords, n)
	}
}

// syscalls is how often this process has read anything.
func syscalls(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("needs /proc/self/io: %v", err)
	}
	_, rest, _ := strings.Cut(string(b), "syscr: ")
	n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	return n
}

// fillWithRecords makes n stopped sandboxes without a disk.
func fillWithRecords(tb testing.TB, dir string, n int) {
	tb.Helper()
	st, err := store.Open(tb.Context(), dir, true)
	if err != nil {
		tb.Fatal(err)
	}
	defer st.Close()
	for i := range n {
		info := Info{ID: store.NewID(), Name: fmt.Sprintf("box-%d", i), Image: "python:3-alpine", Digest: "sha256:" + strings.Repeat("5", 64),
			VCPU: 1, MemMiB: 128, DiskSizeMiB: 4096, CreatedAt: epochMicro(time.Now().UnixMicro()), Status: StateStopped,
			Env: map[string]string{"KEY": "value"}, Metadata: map[string]any{"n": i, "owner": map[string]any{"name": "ann"}},
			Labels: map[string]string{"team": "red"}}
		row, err := encode(info, st.Self())
		if err != nil {
			tb.Fatal(err)
		}
		if err := st.Insert(tb.Context(), row); err != nil {
			tb.Fatal(err)
		}
	}
}

// runSome makes n running ones and leaves them to the next manager.
func runSome(tb testing.TB, dir string, n int) (stop func()) {
	tb.Helper()
	image := tb.TempDir()
	m, err := openFake(tb.Context(), dir)
	if err != nil {
		tb.Fatal(err)
	}
	var ids []string
	for range n {
		sb, err := m.Create(tb.Context(), CreateOptions{Image: "dir:" + image})
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, sb.ID())
	}
	m.Close()
	return func() {
		m, err := openFake(tb.Context(), dir)
		if err != nil {
			tb.Fatal(err)
		}
		defer m.Close()
		for _, id := range ids {
			if sb, err := m.Get(tb.Context(), id); err == nil {
				if err := sb.Delete(tb.Context()); err != nil {
					tb.Error(err)
				}
			}
		}
	}
}

// measure has a process of its own open the directory.
func measure(tb testing.TB, dir string) (f figures) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), scaleEnv+"="+dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &f)
	}
	if err != nil {
		tb.Fatalf("%v\n%s", err, errs.String())
	}
	return f
}

// beMeasured opens dir, connects to every running sandbox, and prints figures.
func beMeasured(dir string) int {
	ctx := context.Background()
	began := time.Now()
	m, err := openFake(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f := figures{Open: time.Since(began)}
	var lists []time.Duration
	for range 21 {
		began = time.Now()
		list, err := m.List(ctx, ListOptions{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		f.Sandboxes, lists = len(list), append(lists, time.Since(began))
	}
	slices.Sort(lists)
	f.List = lists[len(lists)/2]
	running, _ := m.List(ctx, ListOptions{States: []State{StateRunning}})
	for _, i := range running {
		sb, err := m.Get(ctx, i.ID)
		if err == nil {
			_, err = sb.Shell("echo").Output(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	debug.FreeOSMemory() // what the garbage collector would give back in time
	f.Goroutines, f.RSS = runtime.NumGoroutine(), resident()
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		return 1
	}
	return 0
}

// resident is the memory of this process, in bytes.
func resident() int64 {
	b, _ := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
