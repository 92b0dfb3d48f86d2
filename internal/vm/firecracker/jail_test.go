package firecracker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestJail looks at what a real machine is kept in, and that all of it is gone
// after its end, also after one that no manager saw.
func TestJail(t *testing.T) {
	d := New(Options{}).(*driver)
	if _, err := d.Version(t.Context()); err != nil {
		t.Skipf("needs Firecracker: %v", err)
	}
	if err := needKVM(context.Background()); err != nil {
		t.Skip(err)
	}
	if os.Geteuid() != 0 || d.jailer() == "" {
		t.Skip("needs root and a jailer")
	}
	e := vmtest.Kit(t, d.Traits().Modules...)
	ctx, cancel := context.WithTimeout(t.Context(), vmtest.Timeout)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "m")
	spec := e.Spec(t, "jailed", dir)
	boot := func() (vm.Machine, *slot) {
		t.Helper()
		m, err := d.Boot(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Kill() })
		return m, m.(*machine).jail.slot
	}
	m, s := boot()
	checkConfined(t, m.Handle().PID, s, spec)
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	gone := func() {
		t.Helper()
		nothingLeft(t, d, dir)
		if _, err := os.Stat(s.group()); err == nil {
			t.Error("the control group is left")
		}
	}
	gone()

	// Nobody is there when it ends; the next that boots finds what it left.
	m, s = boot()
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	proc, err := monitor.FindProcess(m.Handle().PID, m.Handle().StartTime)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.link()); err != nil {
		t.Errorf("the slot is free, and nobody freed it: %v", err)
	}
	m, again := boot()
	if again.number != s.number {
		t.Errorf("number %d was not used again, but %d", s.number, again.number)
	}
	if err := vmtest.Answer(ctx, m.Dial); err != nil {
		t.Error(err)
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	gone()
}

// checkConfined reads what the kernel says of a process.
func checkConfined(t *testing.T, pid int, s *slot, spec vm.Spec) {
	t.Helper()
	status, err := os.ReadFile(monitor.ProcPath(pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	uid := fmt.Sprint(s.uid())
	for field, want := range map[string]string{
		"Uid": strings.Join([]string{uid, uid, uid, uid}, " "), "Gid": strings.Join([]string{uid, uid, uid, uid}, " "),
		"Groups": "", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		found := false
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, field+":"); ok {
				found = true
				if got := strings.Join(strings.Fields(rest), " "); got != want {
					t.Errorf("%s is %q, want %q", field, got, want)
				}
			}
		}
		if !found {
			t.Errorf("its status has no %s", field)
		}
	}
	for _, ns := range []string{"mnt", "net", "pid", "ipc", "uts"} {
		theirs, err := os.Readlink(monitor.ProcPath(pid, "ns/"+ns))
		ours, _ := os.Readlink(monitor.ProcPath(os.Getpid(), "ns/"+ns))
		if err != nil || theirs == ours {
			t.Errorf("its %s namespace is %q, ours %q; %v", ns, theirs, ours, err)
		}
	}
	if _, err := os.Stat(filepath.Join(monitor.ProcPath(pid, "root"), "etc")); err == nil {
		t.Error("it sees an /etc")
	}
	if !hasLimits() {
		t.Log("this host has no cgroup v2: no limits")
		return
	}
	groups, err := os.ReadFile(monitor.ProcPath(pid, "cgroup"))
	if err != nil || !strings.Contains(string(groups), fmt.Sprintf("/%s/%d\n", filepath.Base(groupDir), s.number)) {
		t.Errorf("its control groups are %q, %v", groups, err)
	}
	limit, err := os.ReadFile(filepath.Join(s.group(), "memory.max"))
	var bytes int
	if _, serr := fmt.Sscan(string(limit), &bytes); err != nil || serr != nil || bytes < spec.MemMiB<<20 || bytes > (2*spec.MemMiB+overheadMiB)<<20 {
		t.Errorf("memory.max is %q, %v", limit, err)
	}
	if err := unix.Access(filepath.Join(s.group(), "cpu.max"), unix.R_OK); err != nil {
		t.Error(err)
	}
}
