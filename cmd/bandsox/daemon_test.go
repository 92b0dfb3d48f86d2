package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// background is a command line whose servers are real ones.
func background(t *testing.T) *app {
	program := vmtest.Program(t, "cmd/bandsox")
	was := executable
	executable = func() (string, error) { return program, nil }
	// Its path is longer than a socket's address may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	t.Cleanup(func() {
		executable = was
		endServer(t, dir)
	})
	return &app{storage: dir}
}

// endServer ends the server of a state directory and waits until it has.
func endServer(t *testing.T, dir string) {
	owner, err := os.ReadFile(store.Layout(dir).Lock())
	if err != nil {
		return
	}
	pid := 0
	for _, c := range string(owner) {
		pid = pid*10 + int(c-'0')
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lock, err := store.Lock(ctx, store.Layout(dir).Lock())
	if err != nil {
		t.Errorf("the server goes on: %v", err)
		return
	}
	_ = lock.Unlock()
}

// TestEnsureServer: of many commands that start at once one starts the server,
// and a server that was killed is started again.
func TestEnsureServer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	a := background(t)
	start := func() (count int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				c, started, err := a.ensureServer(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.List(t.Context(), bandsox.ListOptions{}); err != nil {
					t.Error(err)
				}
				c.Close()
				if started {
					count++
				}
			})
		}
		wg.Wait()
		return count
	}
	if n := start(); n != 1 {
		t.Fatalf("%d servers were started", n)
	}
	if n := start(); n != 0 {
		t.Errorf("%d more were started", n)
	}
	if info, err := os.Stat(store.Layout(a.storage).Socket()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	endServer(t, a.storage)
	if n := start(); n != 1 {
		t.Errorf("after its end %d were started", n)
	}
}

// TestServerThatDies says why.
func TestServerThatDies(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	a := background(t)
	a.driver = "none"
	_, _, err := a.ensureServer(t.Context())
	var e *bandsox.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), `unknown driver "none"`) {
		t.Errorf("got %v", err)
	}
}

// TestShape: flags that a running server was started without are refused, and
// those that it has are not.
func TestShape(t *testing.T) {
	l := newFake(t)
	say := func(args ...string) (string, int) {
		out, err := l.command(args...).CombinedOutput()
		return string(out), exitOf(t, err)
	}
	if out, code := say("--registry-mirror", "one=two", "ps"); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	for _, args := range [][]string{
		{"ps"}, {"--driver", "process", "ps"}, {"--registry-mirror", "one=two", "ps"}, {"--storage", l.state, "ps"}, {"--url", "unix://" + l.state + "/server.sock", "ps"},
	} {
		if out, code := say(args...); code != 0 {
			t.Errorf("%v: exit code %d, %s", args, code, out)
		}
	}
	stop := "hint: bandsox --storage " + l.state + " serve --stop"
	url := "unix://" + l.state + "/server.sock"
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"--driver", "qemu", "ps"}, []string{"has the driver process, not qemu", stop}},
		{[]string{"--registry-mirror", "one=three", "ps"}, []string{"without --registry-mirror=one=three", stop}},
		{[]string{"--accel", "tcg", "image", "list"}, []string{"without --accel=tcg", stop}},
		{[]string{"--url", url, "--storage", l.state, "ps"}, []string{"give one of them"}},
		{[]string{"--url", url, "--driver", "qemu", "ps"}, []string{"--driver shapes a server when it starts", "--driver qemu serve"}},
	} {
		out, code := say(c.args...)
		if code != exitError {
			t.Errorf("%v: exit code %d", c.args, code)
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in %s", c.args, want, out)
			}
		}
	}
	if out, code := say("serve", "--stop"); code != 0 {
		t.Errorf("%s", out)
	}
	if out, code := say("--registry-mirror", "one=three", "ps"); code != 0 {
		t.Errorf("after --stop: %s", out)
	}
}

// TestUnit: systemd has nothing to say about the unit.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	for _, user := range []bool{false, true} {
		text := unitText([]string{"/bin/true", "--storage", "/var/lib/a b%", "serve"}, "/var/lib/a b%", user)
		path := filepath.Join(t.TempDir(), unitName)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no", path}
		if user {
			args = append([]string{"--user"}, args...)
			t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
		}
		if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || strings.Contains(string(out), unitName) {
			t.Errorf("user %v: %v\n%s\n%s", user, err, out, text)
		}
	}
}
