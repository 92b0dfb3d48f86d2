package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// lab is a state directory for real machines, an image, and what to run the
// command line with. Nothing may be left in it when its test ends.
type lab struct {
	state string
	image string
	env   []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	vmtest.NeedQEMU(t)
	k := vmKit(t)
	l := &lab{state: filepath.Join(t.TempDir(), "state"), image: "dir:" + k.image}
	l.env = append(os.Environ(), "BANDSOX_STORAGE="+l.state, "BANDSOX_AGENT="+k.agent, "BANDSOX_NO_TEMPLATES=1", "HOME="+t.TempDir(),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := os.MkdirAll(l.state, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(k.kernels, filepath.Join(l.state, "kernels")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.command("cleanup").Run()
		if out, err := l.command("serve", "--stop").CombinedOutput(); err != nil {
			t.Errorf("stopping the server: %v %s", err, out)
		}
		for _, pid := range l.machines() {
			t.Errorf("a machine is left running even after cleanup: %d", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return l
}

// command is bandsox with these arguments.
func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command("bandsox", args...)
	cmd.Env = l.env
	return cmd
}

// machines are the processes of the machines in the lab.
func (l *lab) machines() []int {
	var pids []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		b, err := os.ReadFile(path)
		program, _, _ := bytes.Cut(b, []byte{0})
		if err != nil || !strings.HasPrefix(filepath.Base(string(program)), "qemu-system-") {
			continue
		}
		if dir, err := os.Readlink(filepath.Join(filepath.Dir(path), "cwd")); err != nil || !strings.HasPrefix(dir, l.state+"/") {
			if !bytes.Contains(b, []byte(l.state+"/")) {
				continue
			}
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		pids = append(pids, pid)
	}
	return pids
}

// settles waits until the server has thrown away what its creators left: they
// don't wait for that.
func (l *lab) settles(t *testing.T) {
	t.Helper()
	wait(t, "the server to throw sandboxes away", func() bool {
		left, _ := filepath.Glob(filepath.Join(l.state, "sandboxes", "*"))
		half, _ := filepath.Glob(filepath.Join(l.state, "scratch", "*", "*"))
		return len(left) == 0 && len(half) == 0 && len(l.machines()) == 0
	})
}

// nothingLeft fails the test unless no machine runs and no file of a sandbox
// or of half-done work is there: before anything has cleaned up.
func (l *lab) nothingLeft(t *testing.T) {
	t.Helper()
	l.settles(t)
	if pids := l.machines(); len(pids) > 0 {
		t.Errorf("machines left running: %v", pids)
	}
	for _, sub := range []string{"sandboxes", "scratch"} {
		_ = filepath.WalkDir(filepath.Join(l.state, sub), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("left behind: %s", path)
			}
			return nil
		})
	}
	if out, err := l.command("ps", "-a", "--json").Output(); err != nil || strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("sandboxes left: %s %v", out, err)
	}
	if out, err := l.command("cleanup").CombinedOutput(); err != nil || !strings.Contains(string(out), "Nothing to clean up.") {
		t.Errorf("cleanup: %s %v", out, err)
	}
}

// inTime is longer than bandsox itself waits for a guest, whose silence it
// then explains better than we could.
const inTime = 2 * vmtest.Timeout

// running is a bandsox that runs, with what it has written so far.
type running struct {
	*exec.Cmd
	out, err output
	done     chan struct{} // closed when it has ended
}

// start starts a bandsox; it is gone when the test ends.
func (l *lab) start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{Cmd: l.command(args...)}
	r.Stdout, r.Stderr = &r.out, &r.err
	r.begin(t)
	return r
}

func (r *running) begin(t *testing.T) {
	t.Helper()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	r.done = make(chan struct{})
	go func() {
		_ = r.Cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
	})
}

// signal sends it a signal, as kill does.
func (r *running) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := r.Process.Signal(s); err != nil {
		t.Fatalf("sending %v: %v\n%s%s", s, err, r.out.String(), r.err.String())
	}
}

// ends fails the test unless it ends, within the time, with the code.
func (r *running) ends(t *testing.T, within time.Duration, code int) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(within):
		_ = r.Process.Signal(syscall.SIGABRT) // it says what each of its goroutines waits for
		<-r.done
		t.Fatalf("still running after %v\n%s%s", within, r.out.String(), r.err.String())
	}
	if got := r.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d (%v), want %d\n%s%s", got, r.ProcessState, code, r.out.String(), r.err.String())
	}
}

// says waits until the output holds the text.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	wait(t, "output "+strconv.Quote(text), func() bool {
		if strings.Contains(r.out.String(), text) {
			return true
		}
		select {
		case <-r.done:
			// Its last words may still be on their way through the terminal.
			for range 100 {
				if strings.Contains(r.out.String(), text) {
					return true
				}
				time.Sleep(20 * time.Millisecond)
			}
			if !strings.Contains(r.out.String(), text) {
				t.Fatalf("ended (%v) without saying %q\n%s%s", r.ProcessState, text, r.out.String(), r.err.String())
			}
		default:
		}
		return false
	})
}

// wait waits for what must come, for far longer than it needs.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(vmtest.Timeout); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for %s", vmtest.Timeout, what)
		}
	}
}

// output is a buffer that can be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// exitOf is the exit code in what a Cmd's Run returned.
func exitOf(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return 0
}
