package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// hello boots a machine, waits for its agent's first answer and kills it.
func hello(tb testing.TB, d vm.Driver, e vmtest.Env) (time.Duration, error) {
	spec := e.Spec(tb, "boot", filepath.Join(tb.TempDir(), "m"))
	ctx, cancel := context.WithTimeout(tb.Context(), vmtest.Timeout)
	defer cancel()
	start := time.Now()
	m, err := d.Boot(ctx, spec)
	if err != nil {
		return 0, err
	}
	defer m.Kill()
	err = vmtest.Answer(ctx, m.Dial)
	return time.Since(start), err
}

// TestBootsUnderLoad boots with every core of the host busy, which is when a
// kernel that measures its own clock hangs. BANDSOX_TEST_BOOTS says how often.
func TestBootsUnderLoad(t *testing.T) {
	e := vmtest.Kit(t)
	boots := 3
	if n, err := strconv.Atoi(os.Getenv("BANDSOX_TEST_BOOTS")); err == nil {
		boots = n
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		busy := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer busy.Wait()
	}
	defer cancel() // before they are waited for
	d := New(Options{})
	var times []time.Duration
	for i := range boots {
		took, err := hello(t, d, e)
		if err != nil {
			t.Errorf("boot %d, after %v: %v", i, took, err)
			continue
		}
		times = append(times, took)
	}
	slices.Sort(times)
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("%d of %d boots, load %.14s: %v", len(times), boots, load, times)
}

// BenchmarkBoot is the time to the agent's first answer, through the driver and
// with a bare command of the same devices.
func BenchmarkBoot(b *testing.B) {
	e := vmtest.Kit(b)
	d := New(Options{})
	// In turn, so that what else the host does slows both.
	var driver, bare []time.Duration
	for b.Loop() {
		one, err := hello(b, d, e)
		if err != nil {
			b.Fatal(err)
		}
		other, err := bareHello(b, e)
		if err != nil {
			b.Fatal(err)
		}
		driver, bare = append(driver, one), append(bare, other)
	}
	slices.Sort(driver)
	slices.Sort(bare)
	median := len(driver) / 2
	b.ReportMetric(driver[median].Seconds(), "driver-s")
	b.ReportMetric(bare[median].Seconds(), "bare-s")
	b.ReportMetric(driver[median].Seconds()/bare[median].Seconds(), "ratio")
}

// bareHello is hello without the driver: what anyone could type.
func bareHello(tb testing.TB, e vmtest.Env) (time.Duration, error) {
	dir := filepath.Join(tb.TempDir(), "m")
	spec := e.Spec(tb, "bare", dir)
	argv := (&launch{Spec: spec, accel: "tcg"}).arguments(3, 4)
	for i, a := range argv {
		for name, fd := range map[string]int{"qmp": 3, "agent": 4} {
			if a == socketFD(name, fd) {
				argv[i] = fmt.Sprintf("socket,id=%s,path=%s.sock,server=on,wait=off", name, name)
			}
		}
	}
	start := time.Now()
	cmd := exec.Command("qemu-system-"+guest.qemu, argv...)
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	ctx, cancel := context.WithTimeout(tb.Context(), vmtest.Timeout)
	defer cancel()
	err := vmtest.Answer(ctx, func(ctx context.Context) (net.Conn, error) {
		for {
			conn, err := net.Dial("unix", filepath.Join(dir, agentSocket))
			if err == nil || ctx.Err() != nil {
				return conn, err
			}
			time.Sleep(time.Millisecond)
		}
	})
	return time.Since(start), err
}

// TestBadProgram: what is no QEMU, or one that won't start, says so.
func TestBadProgram(t *testing.T) {
	e := vmtest.Kit(t)
	missing := New(Options{Binary: "/nowhere/qemu"})
	if _, err := missing.Version(t.Context()); err == nil || !strings.Contains(monitor.HintOf(err), "apt-get install") {
		t.Errorf("no QEMU: %v, hint %q", err, monitor.HintOf(err))
	}
	script := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho boom >&2\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := New(Options{Binary: script, Accel: "tcg"})
	if v, err := d.Version(t.Context()); err == nil {
		t.Errorf("a script has version %q", v)
	}
	if _, err := d.Boot(t.Context(), e.Spec(t, "boom", t.TempDir())); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("booting with a script: %v", err)
	}
	// A QEMU that was built without -sandbox is run without.
	picky := filepath.Join(t.TempDir(), "qemu")
	refuse := "#!/bin/sh\ncase \"$*\" in *-sandbox*) echo '-sandbox support is not enabled in this QEMU binary' >&2; exit 1; esac\necho plain boom >&2\nexit 7\n"
	if err := os.WriteFile(picky, []byte(refuse), 0o755); err != nil {
		t.Fatal(err)
	}
	d = New(Options{Binary: picky, Accel: "tcg"})
	if _, err := d.Boot(t.Context(), e.Spec(t, "picky", t.TempDir())); err == nil || !strings.Contains(err.Error(), "plain boom") {
		t.Errorf("booting without -sandbox: %v", err)
	}
	huge := e.Spec(t, "huge", t.TempDir())
	huge.MemMiB = 4 << 20 // 4 TiB
	if _, err := New(Options{Accel: "tcg"}).Boot(t.Context(), huge); err == nil {
		t.Log("this host gives 4 TiB to who asks")
	} else {
		t.Log(err)
	}
}
