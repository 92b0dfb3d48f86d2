package bandsox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// viewEnv makes the test program a manager that streams a process's output,
// to be killed in the middle of it.
const viewEnv = "BANDSOX_TEST_VIEW"

// view is such a manager. Its arguments are the sandbox, the process and the
// offset to go on at.
func view() int {
	ctx := context.Background()
	f := strings.Fields(os.Getenv(viewEnv))
	os.Unsetenv(viewEnv)
	m, err := openAny(ctx, os.Getenv("BANDSOX_TEST_DIR"), os.Getenv("BANDSOX_TEST_AGENT"))
	if err == nil {
		defer m.Close()
		var sb *Sandbox
		if sb, err = m.Get(ctx, f[0]); err == nil {
			var p *Process
			if p, err = sb.Process(ctx, f[1]); err == nil {
				at, _ := strconv.ParseInt(f[2], 10, 64)
				var a *Attachment
				if a, err = p.Attach(ctx, AttachOptions{Offset: at, Stdin: os.Stdin, Stdout: os.Stdout}); err == nil {
					fmt.Fprintf(os.Stderr, "lost %d\n", a.Lost())
					err = a.Wait(ctx)
				}
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func output(t *testing.T, p *Process, o AttachOptions) (string, *Attachment, error) {
	t.Helper()
	var b bytes.Buffer
	o.Stdout, o.Stderr = &b, &b
	a, err := p.Attach(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Wait(t.Context())
	return b.String(), a, err
}

// TestSessions is what the reference's start_session, send_session_input and
// kill_session do, and what they can't: attach again, wait after the fact.
func TestSessions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	cmd := sb.Shell("echo ready; while read x; do echo got $x; done; echo end; exit 7")
	if err := sb.Mkdir(ctx, "/work", MkdirOptions{}); err != nil {
		t.Fatal(err)
	}
	cmd.Detach, cmd.OpenStdin, cmd.Dir = true, true, "/work"
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := sb.Process(ctx, cmd.ProcessID()[:15])
	if err != nil || p.ID() != cmd.ProcessID() {
		t.Fatal(p, err)
	}
	if err := p.Write(ctx, []byte("one\n\x00\xfftwo\n")); err != nil {
		t.Fatal(err)
	}
	info, err := p.Info(ctx)
	if err != nil || info.Exit != nil || info.Argv[2] == "" || info.Dir != "/work" || !info.Stdin || info.TTY || info.PID == 0 || info.Started.IsZero() {
		t.Errorf("%+v %v", info, err)
	}
	if err := p.CloseStdin(ctx); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	for _, w := range []func(context.Context) error{cmd.Wait, p.Wait, p.Wait} {
		if err := w(ctx); !errors.As(err, &exit) || exit.Code != 7 {
			t.Errorf("waiting: %v", err)
		}
	}
	want := "ready\ngot one\ngot \xfftwo\nend\n" // the shell drops the NUL
	if out, a, err := output(t, p, AttachOptions{}); out != want || !errors.As(err, &exit) || a.Lost() != 0 || a.Offset() != int64(len(want)) {
		t.Errorf("%q %v, at %d", out, err, a.Offset())
	}
	if out, _, _ := output(t, p, AttachOptions{Offset: -4}); out != "end\n" {
		t.Errorf("the last four: %q", out)
	}
	if out, _, _ := output(t, p, AttachOptions{NewOnly: true}); out != "" {
		t.Errorf("what is new: %q", out)
	}
	if _, err := p.Attach(ctx, AttachOptions{Offset: 1000}); !errors.Is(err, ErrInvalid) {
		t.Errorf("beyond the end: %v", err)
	}
	if err := p.Write(ctx, []byte("x")); !errors.Is(err, ErrConflict) {
		t.Errorf("writing to an ended one: %v", err)
	}
	if err := p.Resize(ctx, Size{Cols: 1, Rows: 1}); !errors.Is(err, ErrConflict) {
		t.Errorf("resizing a pipe: %v", err)
	}
	for _, ref := range []string{"", "none"} {
		if _, err := sb.Process(ctx, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	bad := sb.Command("true")
	bad.Detach, bad.Stdout = true, io.Discard
	if err := bad.Start(ctx); !errors.Is(err, ErrInvalid) {
		t.Errorf("detached, with a writer: %v", err)
	}
}

// TestTwoViewersOfATerminal has both type and resize, and one leave.
func TestTwoViewersOfATerminal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	cmd := sb.Shell("stty -echo; echo ready; read a; stty size; read b; stty size; echo $a $b; sleep 1000 & wait")
	cmd.Detach, cmd.TTY = true, &Size{Cols: 80, Rows: 24}
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p := cmd.Process()
	attach := func(w io.Writer) *Attachment {
		a, err := p.Attach(ctx, AttachOptions{Stdout: w})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	r, w := io.Pipe()
	one := attach(w)
	until := func(want string) {
		t.Helper()
		var got []byte
		for b := make([]byte, 1); !strings.HasSuffix(string(got), want); got = append(got, b...) {
			if _, err := r.Read(b); err != nil {
				t.Fatalf("%q: %v", got, err)
			}
		}
	}
	until("ready\r\n")
	var all bytes.Buffer
	two := attach(&all)
	if err := two.Resize(Size{Cols: 100, Rows: 50}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Write([]byte("from two\n")); err != nil {
		t.Fatal(err)
	}
	until("50 100\r\n") // what goes other ways may overtake it
	if err := p.Resize(ctx, Size{Cols: 120, Rows: 40}); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(ctx, []byte("from nobody\n")); err != nil {
		t.Fatal(err)
	}
	until("from two from nobody\r\n")
	if info, err := p.Info(ctx); err != nil || info.Viewers != 2 || !info.TTY {
		t.Errorf("%+v %v", info, err)
	}
	defer w.Close()
	go io.Copy(io.Discard, r)
	if err := one.Detach(); err != nil {
		t.Error(err)
	}
	if err := one.Wait(ctx); !errors.Is(err, ErrDetached) {
		t.Errorf("the one that left: %v", err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	if err := two.Wait(ctx); !errors.As(err, &exit) || exit.Signal != syscall.SIGKILL {
		t.Errorf("the one that stayed: %v", err)
	}
	if got := all.String(); !strings.HasSuffix(got, "40 120\r\nfrom two from nobody\r\n") {
		t.Errorf("%q", got)
	}
}

// TestLostOutputIsTold has a process write more than is kept while nobody views.
func TestLostOutputIsTold(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	cmd := sb.Shell("seq 1 300000")
	cmd.Detach = true
	if err := cmd.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := cmd.Process().Info(t.Context())
	if err != nil || info.Output != 1988895 || info.Oldest < 1_000_000 {
		t.Fatalf("%+v %v", info, err)
	}
	out, a, err := output(t, cmd.Process(), AttachOptions{Offset: 100})
	if err != nil || a.Lost() != info.Oldest-100 || a.Start() != info.Oldest || !strings.HasSuffix(out, "\n299999\n300000\n") || int64(len(out)) != info.Output-info.Oldest {
		t.Errorf("%d bytes from %d, lost %d, %v", len(out), a.Start(), a.Lost(), err)
	}
}

func TestAttachEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	cmd := sb.Command("sleep", "1000")
	cmd.Detach = true
	started, cancel := context.WithCancel(t.Context())
	if err := cmd.Start(started); err != nil {
		t.Fatal(err)
	}
	cancel() // it goes on
	ctx, cancel := context.WithCancel(t.Context())
	a, err := cmd.Process().Attach(ctx, AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := a.Wait(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if info, err := cmd.Process().Info(t.Context()); err != nil || info.Exit != nil {
		t.Errorf("%+v %v", info, err)
	}
}

// TestManagerDiesWhileStreaming kills one manager after another, each in the
// middle of a process's output: what they and the last one had is, put
// together, every byte once.
func TestManagerDiesWhileStreaming(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, dir)
	managersDie(t, m, create(t, m, CreateOptions{}), func() *Manager { return newManager(t, dir) }, "")
}

func managersDie(t *testing.T, m *Manager, sb *Sandbox, open func() *Manager, agent string) {
	t.Helper()
	const rounds, lines = 4, 15_000
	cmd := sb.Shell(fmt.Sprintf("for r in 1 2 3 4; do seq ${r}00000 $((${r}00000+%d)); read x; done", lines-1))
	cmd.Detach, cmd.OpenStdin = true, true
	if err := cmd.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := cmd.ProcessID()
	m.Close()

	var got bytes.Buffer
	for round := 1; round <= rounds; round++ {
		viewer := exec.Command(os.Args[0])
		viewer.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", viewEnv, sb.ID(), id, got.Len()),
			"BANDSOX_TEST_DIR="+m.Storage(), "BANDSOX_TEST_AGENT="+agent)
		var told bytes.Buffer
		viewer.Stderr = &told
		stdout, err := viewer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdin, _ := viewer.StdinPipe()
		if err := viewer.Start(); err != nil {
			t.Fatal(err)
		}
		if round > 1 { // the rest of the round before, then on
			rest := int64((round-1)*lines*7 - got.Len())
			if _, err := io.CopyN(&got, stdout, rest); err != nil {
				t.Fatalf("after %d bytes: %v: %s", got.Len(), err, told.String())
			}
			io.WriteString(stdin, "\n")
		}
		if _, err := io.CopyN(&got, stdout, int64(round*10_007)); err != nil {
			t.Fatalf("after %d bytes: %v: %s", got.Len(), err, told.String())
		}
		viewer.Process.Signal(syscall.SIGKILL)
		io.Copy(&got, stdout) // what it had still got out
		viewer.Wait()
		if told.String() != "lost 0\n" {
			t.Fatalf("round %d: %s", round, told.String())
		}
	}
	m = open()
	sb, err := m.Get(t.Context(), sb.ID())
	if err != nil {
		t.Fatal(err)
	}
	p, err := sb.Process(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Attach(t.Context(), AttachOptions{Offset: int64(got.Len()), Stdin: strings.NewReader("\n"), Stdout: &got})
	if err != nil || a.Lost() != 0 {
		t.Fatal(a, err)
	}
	if err := a.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for r := 1; r <= rounds; r++ {
		for i := range lines {
			fmt.Fprintln(&want, r*100_000+i)
		}
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes of %d, or others", got.Len(), want.Len())
	}
}

func TestRealManagerDiesWhileStreaming(t *testing.T) {
	cfg, image := realMachines(t, t.TempDir())
	m := openReal(t, cfg)
	managersDie(t, m, create(t, m, CreateOptions{Image: image}), func() *Manager { return openReal(t, cfg) }, cfg.Agent)
}

// TestBackgroundChildDoesNotHoldTheCommand: the end of a program is the end of
// its exec, whoever still has its output open.
func TestBackgroundChildDoesNotHoldTheCommand(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // less than the child lives
	defer cancel()
	out, err := sb.Shell("sleep 1000 & echo all of it").Output(ctx)
	if err != nil || string(out) != "all of it\n" {
		t.Errorf("%q %v", out, err)
	}
}
