package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// exits fails the test unless err is an ExitError as want.
func exits(t *testing.T, what string, err error, want bandsox.ExitError) {
	t.Helper()
	var exit *bandsox.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("%s: got %v, want %v", what, err, &want)
		return
	}
	want.MemMiB = 128
	if got := *exit; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || err.Error() != want.Error() {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func execs(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{Env: map[string]string{"OF_BOX": "yes"}})
	ok(t, "mkdir", b.Mkdir(ctx, "/some/where", bandsox.MkdirOptions{Parents: true}))
	for what, c := range map[string]struct {
		p    Program
		want string
	}{
		"arguments": {Program{Args: []string{"printf", "%s|", "a b", "$c", "", "ü"}}, "a b|$c||ü|"},
		"shell":     {Program{Shell: "echo $((6*7)) | cat"}, "42\n"},
		"env":       {Program{Shell: "echo $OF_BOX $A $B", Env: []string{"A=1", "B=x=y", "A=2"}}, "yes 2 x=y\n"},
		"directory": {Program{Shell: "basename $PWD", Dir: "/some/where"}, "where\n"},
		"user":      {Program{Shell: "id -u", User: "0:0"}, "0\n"},
		"no input":  {Program{Args: []string{"cat"}}, ""},
		"input":     {Program{Args: []string{"cat"}, Stdin: strings.NewReader("in")}, "in"},
		"terminal":  {Program{Shell: "stty size; tty -s && echo yes", TTY: &bandsox.Size{Cols: 77, Rows: 33}}, "33 77\r\nyes\r\n"},
		"torn":      {Program{Shell: `printf '\303'; sleep 0.05; printf '\274\377'`}, "ü\xff"},
	} {
		if out, err := b.Cmd(c.p).Output(ctx); err != nil || string(out) != c.want {
			t.Errorf("%s: %q %v, want %q", what, out, err, c.want)
		}
	}
	var out, errs bytes.Buffer
	ok(t, "apart", b.Cmd(Program{Shell: "echo one; echo two >&2", Stdout: &out, Stderr: &errs}).Run(ctx))
	if out.String() != "one\n" || errs.String() != "two\n" {
		t.Errorf("apart: %q %q", out.String(), errs.String())
	}
	both, err := b.Cmd(Program{Shell: "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three"}).CombinedOutput(ctx)
	if err != nil || string(both) != "one\ntwo\nthree\n" {
		t.Errorf("together: %q %v", both, err)
	}
	_, err = b.Cmd(Program{Stdout: &out, Args: []string{"true"}}).Output(ctx)
	is(t, "Output with a Stdout", err, bandsox.ErrInvalid)
}

func execEnds(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{MemMiB: 128})
	for script, want := range map[string]bandsox.ExitError{
		"exit 3":                   {Code: 3},
		"/tmp":                     {Code: 126},
		"no-such-program-anywhere": {Code: 127},
		"kill -9 $$":               {Code: 137, Signal: syscall.SIGKILL},
		"kill -15 $$":              {Code: 143, Signal: syscall.SIGTERM},
		"exit 255":                 {Code: 255},
	} {
		exits(t, script, b.Cmd(Program{Shell: script}).Run(ctx), want)
	}
	_, err := b.Cmd(Program{Shell: "echo why >&2; exit 1"}).Output(ctx)
	exits(t, "with its words", err, bandsox.ExitError{Code: 1, Stderr: []byte("why\n")})

	var out bytes.Buffer
	err = b.Cmd(Program{Shell: "echo begun; sleep 1000", Timeout: 300 * time.Millisecond, Stdout: &out}).Run(ctx)
	exits(t, "timeout", err, bandsox.ExitError{Code: 137, Signal: syscall.SIGKILL, Timeout: true})
	if !errors.Is(err, bandsox.ErrTimeout) || out.String() != "begun\n" {
		t.Errorf("timeout: %v, %q", err, out.String())
	}
	is(t, "no such program", b.Cmd(Program{Args: []string{"no-such-program-anywhere"}}).Run(ctx), bandsox.ErrNotFound)
	is(t, "no program", b.Cmd(Program{}).Run(ctx), bandsox.ErrInvalid)
	is(t, "a bad variable", b.Cmd(Program{Args: []string{"true"}, Env: []string{"A"}}).Run(ctx), bandsox.ErrInvalid)
	is(t, "a relative directory", b.Cmd(Program{Args: []string{"true"}, Dir: "x"}).Run(ctx), bandsox.ErrInvalid)
	is(t, "half a user", b.Cmd(Program{Args: []string{"true"}, User: "a:"}).Run(ctx), bandsox.ErrInvalid)
	is(t, "detached with a writer", b.Cmd(Program{Args: []string{"true"}, Detach: true, Stdout: io.Discard}).Start(ctx), bandsox.ErrInvalid)
	twice := b.Cmd(Program{Args: []string{"true"}})
	is(t, "wait before the start", twice.Wait(ctx), bandsox.ErrInvalid)
	is(t, "signal before the start", twice.Signal(syscall.SIGTERM), bandsox.ErrInvalid)
	ok(t, "start", twice.Start(ctx))
	is(t, "start again", twice.Start(ctx), bandsox.ErrInvalid)
	ok(t, "wait", twice.Wait(ctx))
	ok(t, "wait again", twice.Wait(ctx))

	ok(t, "stop", b.Stop(ctx, 0))
	is(t, "in a stopped one", b.Cmd(Program{Args: []string{"true"}}).Run(ctx), bandsox.ErrConflict)
	is(t, "detached, in a stopped one", b.Cmd(Program{Args: []string{"true"}, Detach: true}).Run(ctx), bandsox.ErrConflict)
}

// execBytes sends what is no text through a program, more than any buffer holds.
func execBytes(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{})
	in := make([]byte, 20<<20)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(in)
	out, err := b.Cmd(Program{Args: []string{"cat"}, Stdin: bytes.NewReader(in)}).Output(ctx)
	if err != nil || !bytes.Equal(out, in) {
		t.Errorf("%d bytes of %d, or others: %v", len(out), len(in), err)
	}
	// One that doesn't read its input can be signalled, and ends, all the same.
	ready := make(chan struct{})
	cmd := b.Cmd(Program{Shell: "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done", Stdin: bytes.NewReader(in), Stdout: &until{want: "ready", then: func() { close(ready) }}})
	ok(t, "start", cmd.Start(ctx))
	<-ready
	ok(t, "signal", cmd.Signal(syscall.SIGTERM))
	var exit *bandsox.ExitError
	if err := cmd.Wait(ctx); !errors.As(err, &exit) || exit.Code != 9 {
		t.Errorf("signalled: %v", err)
	}
	// A writer that fails ends the program.
	err = b.Cmd(Program{Shell: "while :; do echo x; done", Stdout: failing{}}).Run(ctx)
	if !errors.Is(err, errFull) {
		t.Errorf("a writer that fails: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

// until calls a function once it was written a text.
type until struct {
	got  []byte
	want string
	then func()
}

func (u *until) Write(b []byte) (int, error) {
	had := bytes.Contains(u.got, []byte(u.want))
	u.got = append(u.got, b...)
	if !had && bytes.Contains(u.got, []byte(u.want)) {
		u.then()
	}
	return len(b), nil
}

// execCancels kills programs, and all they started, by the end of a context.
func execCancels(t *testing.T, h House) {
	b := box(t, h, bandsox.CreateOptions{})
	for _, how := range []string{"cancel", "kill"} {
		ctx, cancel := context.WithCancel(t.Context())
		ready := make(chan struct{})
		cmd := b.Cmd(Program{Shell: "sleep 987654 & echo $! > /tmp/child; echo ready; wait", Stdout: &until{want: "ready", then: func() { close(ready) }}})
		ok(t, "start", cmd.Start(ctx))
		<-ready
		if how == "cancel" {
			cancel()
			if err := cmd.Wait(t.Context()); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		} else {
			ok(t, "kill", cmd.Kill())
			exits(t, "killed", cmd.Wait(t.Context()), bandsox.ExitError{Code: 137, Signal: syscall.SIGKILL})
		}
		cancel()
		for { // it is for its parent to take notice
			out, err := b.Cmd(Program{Shell: "kill -0 $(cat /tmp/child) 2>/dev/null && ! grep -q '^State:.Z' /proc/$(cat /tmp/child)/status && echo lives; true"}).Output(t.Context())
			ok(t, "look", err)
			if len(out) == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Cmd(Program{Args: []string{"true"}}).Run(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func runs(t *testing.T, h House) {
	ctx := t.Context()
	r, isRunner := h.(Runner)
	if !isRunner {
		t.Fatal("it runs nothing")
	}
	var out bytes.Buffer
	info, err := r.RunProgram(ctx, bandsox.CreateOptions{Image: vmtest.Image(t), Name: "run"}, false, &out, "echo", "hello")
	if err != nil || out.String() != "hello\n" || info.Name != "run" || info.MemMiB != bandsox.RunMemMiB || info.Status != bandsox.StateRunning {
		t.Errorf("%q %+v %v", out.String(), info, err)
	}
	_, err = h.Get(ctx, "run")
	is(t, "what was thrown away", err, bandsox.ErrNotFound)
	var exit *bandsox.ExitError
	if _, err = r.RunProgram(ctx, bandsox.CreateOptions{Image: vmtest.Image(t)}, false, nil, "sh", "-c", "exit 4"); !errors.As(err, &exit) || exit.Code != 4 {
		t.Errorf("one that fails: %v", err)
	}
	info, err = r.RunProgram(ctx, bandsox.CreateOptions{Image: vmtest.Image(t)}, true, nil, "true")
	ok(t, "one that is kept", err)
	b, err := h.Get(ctx, info.ID)
	ok(t, "get it", err)
	inState(t, b, bandsox.StateRunning)
	ok(t, "delete it", b.Delete(ctx))
	_, err = r.RunProgram(ctx, bandsox.CreateOptions{Image: "none", Pull: bandsox.PullNever}, false, nil, "true")
	is(t, "no image", err, bandsox.ErrNotFound)
}
