package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// atOnce is what "at once" may take on a busy machine.
const atOnce = 15 * time.Second

// TestSignalReachesTheProgram: the first Ctrl-C, or its like, is the program's,
// which decides what comes of it.
func TestSignalReachesTheProgram(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		code   int
	}{{"INT", syscall.SIGINT, 5}, {"TERM", syscall.SIGTERM, 6}} {
		t.Run(c.name, func(t *testing.T) {
			r := l.start(t, "run", l.image, "sh", "-c",
				"trap 'echo got INT; exit 5' INT; trap 'echo got TERM; exit 6' TERM; echo ready; while :; do sleep 1; done")
			r.says(t, "ready\n")
			r.signal(t, c.signal)
			r.ends(t, inTime, c.code)
			if got := r.out.String(); got != "ready\ngot "+c.name+"\n" {
				t.Errorf("output %q", got)
			}
			l.nothingLeft(t)
		})
	}
	t.Run("unhandled", func(t *testing.T) {
		r := l.start(t, "run", l.image, "sh", "-c", "echo ready; sleep 600")
		r.says(t, "ready\n")
		r.signal(t, syscall.SIGINT)
		r.ends(t, inTime, 130)
		l.nothingLeft(t)
	})
}

// TestSecondSignalLeavesAtOnce: a program that won't end can't keep us.
func TestSecondSignalLeavesAtOnce(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		code   int
	}{{"INT", syscall.SIGINT, 130}, {"TERM", syscall.SIGTERM, 143}} {
		t.Run(c.name, func(t *testing.T) {
			r := l.start(t, "run", l.image, "sh", "-c",
				"trap 'echo ignored' INT TERM; echo ready; while :; do sleep 1; done")
			r.says(t, "ready\n")
			r.signal(t, c.signal)
			r.says(t, "ignored\n")
			r.signal(t, c.signal)
			r.ends(t, atOnce, c.code)
			l.noMachineLeft(t)
		})
	}
}

// TestSignalWhileBooting cancels what is under way and undoes it.
func TestSignalWhileBooting(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		code   int
		twice  bool
	}{{"INT", syscall.SIGINT, 130, false}, {"TERM", syscall.SIGTERM, 143, false}, {"twice", syscall.SIGINT, 130, true}} {
		t.Run(c.name, func(t *testing.T) {
			r := l.start(t, "run", l.image, "echo", "never")
			wait(t, "a machine", func() bool { return len(l.machines()) > 0 })
			r.signal(t, c.signal)
			if c.twice {
				_ = r.Process.Signal(c.signal) // it may have left already
			}
			r.ends(t, atOnce, c.code)
			if got := r.out.String() + r.err.String(); strings.Contains(got, "never") || strings.Contains(got, "error:") {
				t.Errorf("output %q", got)
			}
			if c.twice {
				l.noMachineLeft(t)
			} else {
				l.nothingLeft(t)
			}
		})
	}
}

// noMachineLeft: who leaves at once takes the machine along; the rest is for
// whoever comes next.
func (l *lab) noMachineLeft(t *testing.T) {
	t.Helper()
	l.settles(t)
	if out, err := l.command("cleanup").CombinedOutput(); err != nil {
		t.Errorf("cleanup: %v %s", err, out)
	}
	l.nothingLeft(t)
}

// TestReaderThatGoesAway is `bandsox run IMAGE yes | head -1`.
func TestReaderThatGoesAway(t *testing.T) {
	l := newLab(t)
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r := &running{Cmd: l.command("run", l.image, "yes")}
	r.Stdout, r.Stderr = w, &r.err
	r.begin(t)
	w.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "y\n" {
		t.Errorf("read %q %v", line, err)
	}
	out.Close()
	r.ends(t, inTime, 128+int(syscall.SIGPIPE))
	if got := r.err.String(); strings.Contains(got, "error:") {
		t.Errorf("it complains: %q", got)
	}
	l.nothingLeft(t)
}

// TestClosedStreams: who closes our streams beforehand wants no output, and
// still gets the exit code.
func TestClosedStreams(t *testing.T) {
	l := newLab(t)
	cmd := exec.Command("sh", "-c", `exec bandsox run -i "$0" sh -c 'cat; echo out; echo err >&2; exit 7' <&- >&- 2>&-`, l.image)
	cmd.Env = l.env
	if code := exitOf(t, cmd.Run()); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	l.nothingLeft(t)
}
