package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
)

// detached starts a program that goes on by itself.
func detached(t *testing.T, b Box, p Program) Process {
	t.Helper()
	p.Detach = true
	cmd := b.Cmd(p)
	ok(t, "start", cmd.Start(t.Context()))
	if cmd.PID() == 0 {
		t.Error("it has no number")
	}
	found, err := b.Find(t.Context(), cmd.ProcessID())
	ok(t, "find", err)
	return found
}

// view is all that a process wrote from o.Offset on.
func view(t *testing.T, p Process, o bandsox.AttachOptions) (string, Viewer, error) {
	t.Helper()
	var out bytes.Buffer
	o.Stdout, o.Stderr = &out, &out
	v, err := p.Join(t.Context(), o)
	ok(t, "attach", err)
	err = v.Wait(t.Context())
	return out.String(), v, err
}

func processes(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{})
	ok(t, "mkdir", b.Mkdir(t.Context(), "/work", bandsox.MkdirOptions{}))
	p := detached(t, b, Program{Shell: "echo ready; while read x; do echo got $x; done; echo end; exit 7", OpenStdin: true, Dir: "/work"})
	same, err := b.Find(ctx, p.ID()[:15])
	if err != nil || same.ID() != p.ID() {
		t.Fatal(same, err)
	}
	ok(t, "write", p.Write(ctx, []byte("one\n\xfftwo\n")))
	info, err := p.Info(ctx)
	if err != nil || info.Exit != nil || info.Argv[0] != "/bin/sh" || info.Dir != "/work" || !info.Stdin || info.TTY || info.PID == 0 || info.Started.IsZero() {
		t.Errorf("%+v %v", info, err)
	}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	is(t, "wait too short", p.Wait(soon), bandsox.ErrTimeout)
	cancel()
	ok(t, "close", p.CloseStdin(ctx))
	for range 2 {
		exits(t, "wait", p.Wait(ctx), bandsox.ExitError{Code: 7})
	}
	want := "ready\ngot one\ngot \xfftwo\nend\n"
	out, v, err := view(t, p, bandsox.AttachOptions{})
	exits(t, "attach after the end", err, bandsox.ExitError{Code: 7})
	if out != want || v.Start() != 0 || v.Lost() != 0 || v.Offset() != int64(len(want)) {
		t.Errorf("%q, at %d", out, v.Offset())
	}
	if out, _, _ := view(t, p, bandsox.AttachOptions{Offset: -4}); out != "end\n" {
		t.Errorf("the last four: %q", out)
	}
	if out, _, _ := view(t, p, bandsox.AttachOptions{NewOnly: true}); out != "" {
		t.Errorf("what is new: %q", out)
	}
	_, err = p.Join(ctx, bandsox.AttachOptions{Offset: 1000})
	is(t, "beyond the end", err, bandsox.ErrInvalid)
	is(t, "write to an ended one", p.Write(ctx, []byte("x")), bandsox.ErrConflict)
	is(t, "resize a pipe", p.Resize(ctx, bandsox.Size{Cols: 1, Rows: 1}), bandsox.ErrConflict)
	for _, ref := range []string{"", "none"} {
		_, err := b.Find(ctx, ref)
		is(t, "find "+ref, err, bandsox.ErrNotFound)
	}
	list, err := b.Processes(ctx)
	if err != nil || len(list) != 1 || list[0].ID != p.ID() || list[0].Exit == nil || list[0].Exit.Code != 7 {
		t.Errorf("list: %+v %v", list, err)
	}

	many := detached(t, b, Program{Shell: "seq 1 300000"})
	ok(t, "wait", many.Wait(ctx))
	info, err = many.Info(ctx)
	if err != nil || info.Output != 1988895 || info.Oldest < 1_000_000 {
		t.Fatalf("%+v %v", info, err)
	}
	out, v, err = view(t, many, bandsox.AttachOptions{Offset: 100})
	if err != nil || v.Lost() != info.Oldest-100 || v.Start() != info.Oldest || !strings.HasSuffix(out, "\n299999\n300000\n") || int64(len(out)) != info.Output-info.Oldest {
		t.Errorf("%d bytes from %d, lost %d, %v", len(out), v.Start(), v.Lost(), err)
	}

	ok(t, "stop", b.Stop(ctx, 0))
	_, err = b.Processes(ctx)
	is(t, "of a stopped one", err, bandsox.ErrConflict)
}

// viewers has two type into one terminal, and one leave.
func viewers(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{})
	p := detached(t, b, Program{TTY: &bandsox.Size{Cols: 80, Rows: 24},
		Shell: "stty -echo; echo ready; read a; stty size; read b; stty size; echo $a $b; sleep 987654 & wait"})
	r, w := io.Pipe()
	defer w.Close()
	one, err := p.Join(ctx, bandsox.AttachOptions{Stdout: w})
	ok(t, "attach", err)
	sees := func(want string) {
		t.Helper()
		var got []byte
		for c := make([]byte, 1); !strings.HasSuffix(string(got), want); got = append(got, c...) {
			if _, err := r.Read(c); err != nil {
				t.Fatalf("%q: %v", got, err)
			}
		}
	}
	sees("ready\r\n")
	var all bytes.Buffer
	two, err := p.Join(ctx, bandsox.AttachOptions{Stdout: &all})
	ok(t, "attach another", err)
	ok(t, "resize", two.Resize(bandsox.Size{Cols: 100, Rows: 50}))
	if n, err := two.Write([]byte("from two\n")); err != nil || n != 9 {
		t.Errorf("write: %d %v", n, err)
	}
	sees("50 100\r\n")
	ok(t, "resize", p.Resize(ctx, bandsox.Size{Cols: 120, Rows: 40}))
	ok(t, "write", p.Write(ctx, []byte("from nobody\n")))
	sees("from two from nobody\r\n")
	if info, err := p.Info(ctx); err != nil || info.Viewers != 2 || !info.TTY {
		t.Errorf("%+v %v", info, err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	ok(t, "detach", one.Detach())
	if err := one.Wait(ctx); !errors.Is(err, bandsox.ErrDetached) {
		t.Errorf("the one that left: %v", err)
	}
	short, cancel := context.WithCancel(ctx)
	three, err := p.Join(short, bandsox.AttachOptions{})
	ok(t, "attach a third", err)
	cancel()
	if err := three.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the one whose context ended: %v", err)
	}
	ok(t, "kill", p.Kill(ctx))
	exits(t, "the one that stayed", two.Wait(ctx), bandsox.ExitError{Code: 137, Signal: syscall.SIGKILL})
	if got := all.String(); !strings.HasSuffix(got, "40 120\r\nfrom two from nobody\r\n") {
		t.Errorf("%q", got)
	}
}

// attaches has input come from two, and signals.
func attaches(t *testing.T, h House) {
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{})
	p := detached(t, b, Program{Args: []string{"cat"}, OpenStdin: true})
	var out bytes.Buffer
	ready := make(chan struct{})
	v, err := p.Join(ctx, bandsox.AttachOptions{Stdout: io.MultiWriter(&out, &until{want: "one", then: func() { close(ready) }})})
	ok(t, "attach", err)
	_, err = v.Write([]byte("one"))
	ok(t, "write", err)
	<-ready
	// The end of an attachment's input is that of the process's.
	last, err := p.Join(ctx, bandsox.AttachOptions{Stdin: strings.NewReader("two")})
	ok(t, "attach with an input", err)
	ok(t, "wait", last.Wait(ctx))
	if err := v.Wait(ctx); err != nil || out.String() != "onetwo" || v.Offset() != 6 {
		t.Errorf("%q %v, at %d", out.String(), err, v.Offset())
	}

	// Leaving one with an input open leaves the process's open.
	q := detached(t, b, Program{Args: []string{"cat"}, OpenStdin: true})
	stuck, never := io.Pipe()
	defer never.Close()
	v, err = q.Join(ctx, bandsox.AttachOptions{Stdin: stuck})
	ok(t, "attach with an input", err)
	ok(t, "detach", v.Detach())
	ok(t, "write", q.Write(ctx, []byte("still")))
	ok(t, "close", q.CloseStdin(ctx))
	if text, _, err := view(t, q, bandsox.AttachOptions{}); err != nil || text != "still" {
		t.Errorf("%q %v", text, err)
	}

	s := detached(t, b, Program{Shell: "trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.02; done"})
	ready = make(chan struct{})
	v, err = s.Join(ctx, bandsox.AttachOptions{Stdout: &until{want: "ready", then: func() { close(ready) }}})
	ok(t, "attach", err)
	<-ready
	ok(t, "signal", v.Signal(syscall.SIGINT))
	exits(t, "signalled", v.Wait(ctx), bandsox.ExitError{Code: 5})
	is(t, "no signal", detached(t, b, Program{Args: []string{"true"}}).Signal(ctx, 1000), bandsox.ErrInvalid)
}

// pythons are what Python code can come to.
func pythons(t *testing.T, h House) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3: apt-get install python3")
	}
	ctx := t.Context()
	b := box(t, h, bandsox.CreateOptions{Env: map[string]string{"OF_BOX": "yes"}})
	var out, errs bytes.Buffer
	err := b.Python(ctx, "import os, sys\nprint(sys.argv, os.environ['OF_BOX'], os.environ['X'], os.getcwd()[-5:])\nprint(sys.stdin.read(), file=sys.stderr, end='')",
		bandsox.PythonOptions{Args: []string{"a b"}, Env: []string{"X=1"}, Dir: "/some/where", Stdin: strings.NewReader("the rest"), Stdout: &out, Stderr: &errs})
	if err != nil || out.String() != "['<python>', 'a b'] yes 1 where\n" || errs.String() != "the rest" {
		t.Errorf("%q %q %v", out.String(), errs.String(), err)
	}
	for code, want := range map[string]bandsox.PythonResult{
		"print('ü')":                         {Stdout: "ü\n", Output: "ü\n", Success: true},
		"":                                   {Success: true},
		"import sys; sys.exit(7)":            {ExitCode: 7, Error: "exit status 7"},
		"import sys; sys.exit('no')":         {ExitCode: 1, Stderr: "no\n", Output: "no\n", Error: "no\n"},
		"import os; os.write(1, b'a\\xff')":  {Stdout: "a\uFFFD", Output: "a\uFFFD", Success: true},
		"import os; os.kill(os.getpid(), 9)": {ExitCode: 137, Error: "ended by signal 9 (killed)"},
	} {
		if got := b.PythonCapture(ctx, code, bandsox.PythonOptions{}); got != want {
			t.Errorf("%s: got %+v", code, got)
		}
	}
	if r := b.PythonCapture(ctx, "while True: pass", bandsox.PythonOptions{Timeout: 500 * time.Millisecond}); !r.TimedOut || r.Success || r.Code != "" {
		t.Errorf("timeout: %+v", r)
	}
	is(t, "packages", b.Python(ctx, "", bandsox.PythonOptions{Packages: []string{"numpy"}}), bandsox.ErrUnavailable)
	r := b.PythonCapture(ctx, "", bandsox.PythonOptions{Packages: []string{"numpy"}})
	if want := fmt.Sprintf("python %s: packages can't be installed: sandboxes have no network yet", b.ID()); r.Code != bandsox.CodeUnavailable || r.Error != want || r.Hint == "" || r.ExitCode != -1 {
		t.Errorf("packages: %+v", r)
	}
	if r := b.PythonCapture(ctx, "", bandsox.PythonOptions{Env: []string{"PATH=/none"}}); r.Code != bandsox.CodeNotFound || r.Success {
		t.Errorf("no Python: %+v", r)
	}
	ok(t, "stop", b.Stop(ctx, 0))
	if r := b.PythonCapture(ctx, "", bandsox.PythonOptions{}); r.Code != bandsox.CodeConflict || r.ExitCode != -1 {
		t.Errorf("stopped: %+v", r)
	}
}
