package bandsox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// detached starts a script that nobody is attached to.
func detached(t *testing.T, sb *Sandbox, script string) string {
	t.Helper()
	cmd := sb.Shell(script)
	cmd.Detach = true
	if err := cmd.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cmd.ProcessID()
}

// lifeOf is what the events tell of a process.
func lifeOf(t *testing.T, m *Manager, process string) string {
	t.Helper()
	var told []string
	list, _ := story(t, m, 0)
	for _, e := range list {
		if e.Details["process"] != process {
			continue
		}
		word := e.Type
		if code := e.Details["exit_code"]; code != "" {
			word += " " + code
		}
		told = append(told, word)
	}
	return strings.Join(told, ", ")
}

func becomes(t *testing.T, what, want string, get func() string) {
	t.Helper()
	var got string
	for range 1200 {
		if got = get(); got == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s: got %q, want %q", what, got, want)
}

const started, exited = "process_started", "process_started, process_exited "

// TestEndsWithoutAManager: what ended while none ran is told by the next, once
// however many come after it; what still runs is watched by it.
func TestEndsWithoutAManager(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			dir, flags := t.TempDir(), t.TempDir()
			next := func() *Manager {
				m, err := openFakeWith(t.Context(), Config{Storage: dir, Shared: shared})
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			m := next()
			sb := create(t, m, CreateOptions{Name: "box"})
			on := func(flag string, code int) string {
				return fmt.Sprintf("while [ ! -e %s ]; do sleep 0.05; done; exit %d", filepath.Join(flags, flag), code)
			}
			pid := filepath.Join(flags, "pid")
			away := detached(t, sb, "echo $$ >"+pid+"; "+on("away", 3))
			later := detached(t, sb, on("later", 4))
			raise := func(flag string) {
				if err := os.WriteFile(filepath.Join(flags, flag), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			raise("away")
			becomes(t, "the process", "gone", func() string {
				number, _ := os.ReadFile(pid)
				if _, err := os.Stat("/proc/" + strings.TrimSpace(string(number))); len(number) > 0 && err != nil {
					return "gone"
				}
				return "there"
			})
			for range 3 {
				m = next()
				if shared {
					sb, err := m.Get(t.Context(), "box")
					if err == nil {
						_, err = sb.Processes(t.Context())
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				becomes(t, "away", exited+"3", func() string { return lifeOf(t, m, away) })
				if got := lifeOf(t, m, later); got != started {
					t.Errorf("later: %s", got)
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
			}
			m = next()
			defer shut(t, m)
			if shared {
				if sb, err := m.Get(t.Context(), "box"); err != nil || sb.Shell("true").Run(t.Context()) != nil {
					t.Fatal(err)
				}
			}
			raise("later")
			becomes(t, "later", exited+"4", func() string { return lifeOf(t, m, later) })
			list, _ := story(t, m, 0)
			i := slices.IndexFunc(list, func(e Event) bool {
				return e.Type == EventProcessExited && e.Details["process"] == away
			})
			if when, err := time.Parse(time.RFC3339, list[i].Details["ended"]); err != nil || time.Since(when) > time.Hour || list[i].Name != "box" {
				t.Errorf("told late: %+v %v", list[i], err)
			}
		})
	}
}

// TestKilledBeforeItTold: the next manager tells what a killed one could not.
func TestKilledBeforeItTold(t *testing.T) {
	t.Parallel()
	dir, image := t.TempDir(), testImage(t)
	killDoing(t, "create to stay", "running", dir, image, "")
	killDoing(t, "leave", "left", dir, image, "")
	for range 2 {
		m, err := openFake(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		tell := func() string {
			list, told := story(t, m, 0)
			if n := len(list); n > 3 && list[n-1].Details["exit_code"] != "5" {
				t.Errorf("%+v", list[n-1])
			}
			return told
		}
		becomes(t, "events", "created ready process_started process_exited", tell)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, newManager(t, dir))
}

// TestEndsAfterABrokenSession: the manager connects again by itself to hear of
// the programs that it left running.
func TestEndsAfterABrokenSession(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	flag := filepath.Join(t.TempDir(), "go")
	id := detached(t, sb, "while [ ! -e "+flag+" ]; do sleep 0.05; done; exit 6")
	client, _ := sb.session()
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	becomes(t, "events", exited+"6", func() string { return lifeOf(t, m, id) })
	if client, _ := sb.session(); client == nil {
		t.Error("there is no session")
	}
}

// TestMadeUpPrograms: a guest can't fill the events with what it makes up, nor
// tell of an end twice.
func TestMadeUpPrograms(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	id := detached(t, sb, "exec sleep 1000")
	end := func(id string) {
		sb.saw(wire.Process{ID: id, Argv: []string{"x"}, Exit: &wire.Exit{Code: 137, OOM: true}}, time.Time{}, time.Time{})
	}
	for range 3 {
		end(store.NewID())
		end("../../x")
		sb.listed(wire.Process{ID: "../../x", Exit: &wire.Exit{}}, true)
		end(id)
	}
	if err := sb.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, told := story(t, m, 0); told != "created ready process_started oom process_exited paused" {
		t.Error(told)
	}
}

// TestProcessesEndWithTheirMachine: each has one end, told by whoever finds that
// the machine has ended, with no exit code made up.
func TestProcessesEndWithTheirMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, dir)
	sb := create(t, m, CreateOptions{})
	ends := func(what, want string, ids ...string) {
		t.Helper()
		for _, id := range ids {
			becomes(t, what, want, func() string { return lifeOf(t, m, id) })
		}
	}
	run := func() []string {
		return []string{detached(t, sb, "exec sleep 1000"), detached(t, sb, "exec sleep 1000")}
	}
	lost := "process_started, process_exited"
	ids := run()
	if err := sb.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends("killed", lost, ids...)
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids = run()
	if err := syscall.Kill(sb.known().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ends("died", lost, ids...)
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids = run()
	if err := sb.Stop(t.Context(), DefaultGrace); err != nil {
		t.Fatal(err)
	}
	ends("stopped, and the guest told", exited+"143", ids...)
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids = run()
	pid := sb.known().PID
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	becomes(t, "the machine", "gone", func() string {
		if syscall.Kill(pid, 0) != nil {
			return "gone"
		}
		return "there"
	})
	m = newManager(t, dir)
	ends("found dead", lost, ids...)
}
