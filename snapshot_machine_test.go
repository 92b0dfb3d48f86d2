package bandsox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
)

// shell runs a script and returns what it printed.
func shell(t *testing.T, sb *Sandbox, script string) string {
	t.Helper()
	out, err := sb.Shell(script).Output(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(out))
}

// TestForkOfARunningMachine: children have the parent's programs and files, and
// are somebody else in all that must not be the same twice.
func TestForkOfARunningMachine(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	parent := create(t, m, CreateOptions{Image: image, Name: "parent", Env: map[string]string{"FROM": "parent"}, Metadata: map[string]any{"a": 1.0}})
	shell(t, parent, `echo kept >/file; mkdir -p /etc/bandsox/restore.d
printf '#!/bin/sh\nhostname >/told\n' >/etc/bandsox/restore.d/tell; chmod +x /etc/bandsox/restore.d/tell`)
	counter := parent.Shell("n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done")
	counter.Stdout = new(bytes.Buffer)
	foreground, stop := context.WithCancel(t.Context()) // a child keeps what its parent's caller would have ended
	running := make(chan error, 1)
	go func() { running <- counter.Run(foreground) }()
	defer func() { stop(); <-running }()
	var counting string
	for counting == "" {
		list, err := parent.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if strings.Contains(strings.Join(p.Argv, " "), "n=0") {
				counting = p.ID
			}
		}
	}
	children, err := parent.Fork(t.Context(), 2, ForkOptions{Name: "child", Metadata: map[string]any{"b": 2.0}})
	if err != nil {
		t.Fatal(err)
	}
	const identity = `hostname; cat /etc/machine-id; cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid`
	seen := map[string]string{}
	for i, sb := range append(children, parent) {
		if got := shell(t, sb, "cat /file; echo $FROM"); got != "kept\nparent" {
			t.Errorf("%d has %q", i, got)
		}
		for line := range strings.Lines(shell(t, sb, identity)) {
			if other, ok := seen[line]; ok {
				t.Errorf("%s and %s have the same %q", other, sb.ID(), line)
			}
			seen[line] = sb.ID()
		}
		before := time.Now()
		now := shell(t, sb, "date +%s")
		if s := time.Unix(atoi(t, now), 0); s.Before(before.Add(-2*time.Second)) || s.After(time.Now().Add(time.Second)) {
			t.Errorf("%d has the time %v at %v", i, s, before)
		}
		info, err := sb.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sb == parent {
			continue
		}
		if info.Name != fmt.Sprintf("child-%d", i+1) || info.Parent != parent.ID() || info.Metadata["a"] != 1.0 || info.Metadata["b"] != 2.0 {
			t.Errorf("child: %+v", info)
		}
		if told := shell(t, sb, "cat /told"); told != info.Name {
			t.Errorf("the hook wrote %q", told)
		}
		p, err := sb.Process(t.Context(), counting)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		a, err := p.Attach(t.Context(), AttachOptions{Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		at := a.Offset()
		for end := time.Now().Add(time.Minute); a.Offset() < at+100 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		}
		if a.Offset() < at+100 {
			t.Error("the parent's program stands still in the child")
		}
		_ = a.Detach()
	}
	select {
	case err := <-running:
		t.Errorf("the parent's program ended: %v", err)
	default:
	}
	grandchildren, err := children[1].Fork(t.Context(), 1, ForkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	shell(t, grandchildren[0], "cat /file")
	if list, _ := m.Snapshots(t.Context(), SnapshotListOptions{}); len(list) > 0 {
		t.Errorf("a fork shows as a snapshot: %+v", list)
	}
	for _, sb := range append(children, grandchildren...) {
		if err := sb.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, err := os.ReadDir(m.store.Snapshots())
		if err == nil && len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("what was made for forks stays: %v %v", left, err)
		}
	}
}

func atoi(t *testing.T, s string) (n int64) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSnapshotOfAMachine takes some, and restores from them what they were.
func TestSnapshotOfAMachine(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	sb := create(t, m, CreateOptions{Image: image, DiskSizeMiB: 256})
	shell(t, sb, "echo one >/state; echo one >/dev/shm/state")
	first, err := sb.Snapshot(t.Context(), SnapshotOptions{Name: "first", Metadata: map[string]any{"n": 1.0}})
	if err != nil {
		t.Fatal(err)
	}
	shell(t, sb, "echo two >/state; echo two >/dev/shm/state")
	if _, err := sb.Snapshot(t.Context(), SnapshotOptions{Name: "first"}); classify(err) != CodeConflict {
		t.Errorf("a name twice: %v", err)
	}
	if err := sb.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := sb.Snapshot(t.Context(), SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := sb.Info(t.Context()); info.Status != StatePaused || info.Snapshot != second.ID() {
		t.Errorf("after a snapshot of a paused one: %+v", info)
	}
	if err := sb.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := m.Snapshots(t.Context(), SnapshotListOptions{})
	if err != nil || len(list) != 2 || list[0].ID != second.ID() || list[0].Parent != first.ID() || list[1].Name != "first" || list[1].Bytes == 0 {
		t.Errorf("listed: %+v, %v", list, err)
	}
	back, err := first.Restore(t.Context(), RestoreOptions{Name: "back", DiskSizeMiB: 512, Env: map[string]string{"X": "y"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := shell(t, back, "cat /state /dev/shm/state; hostname; echo $X"); got != "one\none\nback\ny" {
		t.Errorf("restored: %q", got)
	}
	if kib := atoi(t, shell(t, back, "df -k / | tail -1 | awk '{print $2}'")); kib < 400<<10 {
		t.Errorf("its disk has %d KiB", kib)
	}
	if err := first.Delete(t.Context()); classify(err) != CodeConflict || !strings.Contains(err.Error(), back.ID()) {
		t.Errorf("deleting what is in use: %v", err)
	}
	again, err := second.Restore(t.Context(), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := shell(t, again, "cat /state /dev/shm/state"); got != "two\ntwo" {
		t.Errorf("restored: %q", got)
	}
	third, err := back.Snapshot(t.Context(), SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A restored sandbox is one like any other: it stops and boots.
	if err := back.Restart(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, back, "cat /state; ls /dev/shm | wc -l"); got != "one\n0" {
		t.Errorf("booted: %q", got)
	}
	if err := first.Delete(t.Context()); err != nil {
		t.Errorf("deleting what is no longer in use: %v", err)
	}
	last, err := third.Restore(t.Context(), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := shell(t, last, "cat /state /dev/shm/state"); got != "one\none" {
		t.Errorf("restored from a restored one's: %q", got)
	}
	if err := m.RemoveImage(t.Context(), list[0].Digest); classify(err) != CodeConflict {
		t.Errorf("removing the image of a snapshot: %v", err)
	}
}

// TestTemplate: the second sandbox of a kind goes on from a template, which is as
// good as a boot, and one that is damaged is booted instead.
func TestTemplate(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	cfg.NoTemplates = false
	m := openReal(t, cfg)
	o := CreateOptions{Image: image, Env: map[string]string{"A": "b"}, DiskSizeMiB: 300}
	first := create(t, m, o)
	shell(t, first, "echo mine >/secret")
	m.templates.wait()
	o.Name = "second"
	second := create(t, m, o)
	info, err := second.Info(t.Context())
	if err != nil || info.Template == "" {
		t.Fatalf("no template: %+v %v", info, err)
	}
	if !slices.ContainsFunc(info.Phases, func(p Phase) bool { return p.Name == "boot" }) {
		t.Errorf("phases: %+v", info.Phases)
	}
	if got := shell(t, second, "ls /secret 2>/dev/null; hostname; echo $A; ls /disk /base 2>/dev/null | wc -l"); got != "second\nb\n0" {
		t.Errorf("from a template: %q", got)
	}
	if used, err := m.Snapshots(t.Context(), SnapshotListOptions{All: true}); err != nil || len(used) != 1 || used[0].Purpose != PurposeTemplate {
		t.Errorf("listed: %+v %v", used, err)
	}
	booted := create(t, m, CreateOptions{Image: image, DiskSizeMiB: 300, NoTemplate: true})
	if info, _ := booted.Info(t.Context()); info.Template != "" {
		t.Errorf("it was to boot: %+v", info)
	}
	for _, name := range []string{vm.SavedState, vm.SavedMemory, store.SnapshotDisk, store.SnapshotRecord} {
		path := filepath.Join(m.store.Template(info.Template), name)
		if err := second.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 100); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		second = create(t, m, o)
		if now, _ := second.Info(t.Context()); now.Template != "" {
			t.Errorf("%s cut short, and it goes on from there: %+v", name, now)
		}
		if got := shell(t, second, "hostname"); got != "second" {
			t.Errorf("booted instead: %q", got)
		}
		m.templates.wait()
		if name == vm.SavedState { // was made anew
			if err := second.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
			second = create(t, m, o)
			if now, _ := second.Info(t.Context()); now.Template == "" {
				t.Error("a damaged template is not made anew")
			}
		}
	}
}
