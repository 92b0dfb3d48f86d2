package agent_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/wire"
)

// These tests run the guest's real service as part of this program, on a real
// socket, with real processes of this machine.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for machines under load: nothing here takes long.
const patience = 2 * time.Minute

type service struct {
	root   string
	client *agent.Client
	conn   net.Conn   // the host's end
	over   chan error // Serve's result
}

func context2(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func socketpair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var c [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if c[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return c[0], c[1]
}

func start(t *testing.T, cfg guest.ServeConfig) *service {
	t.Helper()
	cfg.Fake = true
	if cfg.Root == "" {
		cfg.Root = t.TempDir()
	}
	cfg.Log = t.Logf
	host, guestEnd := socketpair(t)
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{root: cfg.Root, conn: host, over: make(chan error, 1)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.over <- guest.Serve(ctx, guestEnd, cfg)
	}()
	t.Cleanup(func() {
		host.Close()
		cancel()
		<-stopped
	})
	c, err := agent.Connect(context2(t), func(context.Context) (net.Conn, error) { return host, nil })
	if err != nil {
		t.Fatal(err)
	}
	s.client = c
	t.Cleanup(func() { c.Close() })
	return s
}

// run runs a process to its end.
func (s *service) run(t *testing.T, r wire.StartRequest) (stdout, stderr string, exit wire.Exit) {
	t.Helper()
	p, err := s.client.Start(context2(t), r)
	if err != nil {
		t.Fatalf("starting %v: %v", r, err)
	}
	defer p.Close()
	var o, e bytes.Buffer
	exit, err = p.Copy(&o, &e)
	if err != nil {
		t.Fatalf("running %v: %v", r, err)
	}
	return o.String(), e.String(), exit
}

func sh(script string) wire.StartRequest { return wire.StartRequest{Shell: script} }

func wantCode(t *testing.T, err error, code wire.Code, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	if got := wire.CodeOf(err); got != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %s: %v, want %s with %q", got, err, code, text)
	}
}

func TestHello(t *testing.T) {
	s := start(t, guest.ServeConfig{Version: "v1.2.3"})
	h := s.client.Hello()
	if h.Agent != "v1.2.3" || h.Version != wire.Version || h.Kernel == "" || len(h.BootID) != 36 {
		t.Errorf("hello says %+v", h)
	}
}

func TestGuestThatCannotWork(t *testing.T) {
	host, guestEnd := socketpair(t)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		guest.Serve(ctx, guestEnd, guest.ServeConfig{
			Fake: true, Root: t.TempDir(), Failure: wire.Errorf(wire.NotFound, "waiting for the disk: no /dev/vdb"),
		})
	}()
	defer func() { cancel(); <-over }()
	_, err := agent.Connect(context2(t), func(context.Context) (net.Conn, error) { return host, nil })
	wantCode(t, err, wire.NotFound, "no /dev/vdb")
}

func TestConnectGivesUp(t *testing.T) {
	_, err := agent.Connect(context2(t), func(context.Context) (net.Conn, error) {
		return nil, errors.New("the machine is gone")
	})
	wantCode(t, err, wire.Unavailable, "the machine is gone")

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	a, b := socketpair(t)
	defer b.Close() // never answers
	_, err = agent.Connect(ctx, func(context.Context) (net.Conn, error) { return a, nil })
	wantCode(t, err, wire.Timeout, "")
}

func TestConnectDialsAgain(t *testing.T) {
	host, guestEnd := socketpair(t)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		guest.Serve(ctx, guestEnd, guest.ServeConfig{Fake: true, Root: t.TempDir()})
	}()
	defer func() { cancel(); <-over }()
	dials := 0
	c, err := agent.Connect(context2(t), func(context.Context) (net.Conn, error) {
		if dials++; dials < 3 { // a connection that breaks at once
			a, b := socketpair(t)
			b.Close()
			return a, nil
		}
		return host, nil
	})
	if err != nil || dials != 3 {
		t.Fatalf("after %d dials: %v", dials, err)
	}
	c.Close()
}

func TestExitCodes(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	for _, c := range []struct {
		script string
		want   wire.Exit
	}{
		{"exit 0", wire.Exit{}},
		{"exit 7", wire.Exit{Code: 7}},
		{"exit 255", wire.Exit{Code: 255}},
		{"kill -TERM $$", wire.Exit{Code: 143, Signal: 15}},
		{"kill -KILL $$", wire.Exit{Code: 137, Signal: 9}},
	} {
		_, _, got := s.run(t, sh(c.script))
		if got.Code != c.want.Code || got.Signal != c.want.Signal || got.Timeout || got.OOM {
			t.Errorf("%s: %+v, want %+v", c.script, got, c.want)
		}
	}
}

func TestStdoutAndStderrApart(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	out, errOut, _ := s.run(t, sh("echo out; echo err >&2; echo out2"))
	if out != "out\nout2\n" || errOut != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, errOut)
	}
}

func TestArgvEnvDir(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	ctx := context2(t)
	if err := s.client.Identity(ctx, wire.Identity{Hostname: "box"}); err != nil {
		t.Fatal(err)
	}
	out, _, _ := s.run(t, wire.StartRequest{
		Argv: []string{"sh", "-c", `printf '%s|' "$0" "$@" "$A" "$B" "$HOSTNAME"; pwd`, "x y", "", "ü"},
		Env:  []string{"A=sandbox", "B=sandbox", "B=request=1"},
		Dir:  "made/by/docker's/rule",
	})
	want := "x y||ü|sandbox|request=1|box|" + s.root + "/made/by/docker's/rule\n"
	if out != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
	out, _, _ = s.run(t, wire.StartRequest{Argv: []string{"env"}, Env: []string{"A=sandbox"}})
	for _, kv := range []string{"PATH=/usr/local/sbin:", "HOME=/", "A=sandbox"} {
		if !strings.Contains(out, kv) {
			t.Errorf("environment lacks %s: %q", kv, out)
		}
	}
	if strings.Contains(out, "TERM=") {
		t.Errorf("TERM without a terminal: %q", out)
	}
}

func TestStartErrors(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(s.root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("plain", "x", 0o644)
	write("noloader", "#!/no/such/interpreter\n", 0o755)
	write("garbage", "\x7fELFgarbage", 0o755)
	for _, c := range []struct {
		r    wire.StartRequest
		code wire.Code
		text string
	}{
		{wire.StartRequest{}, wire.Invalid, "no command"},
		{wire.StartRequest{Argv: []string{"a"}, Shell: "b"}, wire.Invalid, "both"},
		{wire.StartRequest{Argv: []string{"no-such-program"}}, wire.NotFound, "PATH"},
		{wire.StartRequest{Argv: []string{"./no-such-program"}}, wire.NotFound, "no such file"},
		{wire.StartRequest{Argv: []string{"./plain"}}, wire.Invalid, "not executable"},
		{wire.StartRequest{Argv: []string{"/"}}, wire.Invalid, "directory"},
		{wire.StartRequest{Argv: []string{"./noloader"}}, wire.NotFound, "interpreter"},
		{wire.StartRequest{Argv: []string{"./garbage"}}, wire.Invalid, "not a program"},
		{wire.StartRequest{Argv: []string{"a\x00b"}}, wire.Invalid, "NUL"},
		{wire.StartRequest{Shell: "true", Env: []string{"novalue"}}, wire.Invalid, "KEY=value"},
		{wire.StartRequest{Shell: "true", User: "no-such-user"}, wire.Invalid, "no-such-user"},
		{wire.StartRequest{Shell: "true", Dir: "plain"}, wire.Invalid, "not a directory"},
		{wire.StartRequest{Shell: "true", ID: "../x"}, wire.Invalid, "bad id"},
	} {
		_, err := s.client.Start(context2(t), c.r)
		wantCode(t, err, c.code, c.text)
	}
	if out, _, _ := s.run(t, sh("echo still here")); out != "still here\n" {
		t.Errorf("after the errors: %q", out)
	}
}

func TestProcessList(t *testing.T) {
	s := start(t, guest.ServeConfig{})
	s.run(t, wire.StartRequest{ID: "first", Shell: "echo 12345"})
	p, err := s.client.Start(context2(t), wire.StartRequest{ID: "second", Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	list, err := s.client.Processes(context2(t))
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if f := list[0]; f.ID != "first" || f.Exit == nil || f.Output != 6 || f.Argv[2] != "echo 12345" {
		t.Errorf("the first is %+v", f)
	}
	if f := list[1]; f.ID != "second" || f.Exit != nil || f.PID != p.Started().PID || time.Since(f.Started) > patience {
		t.Errorf("the second is %+v", f)
	}
	_, err = s.client.Start(context2(t), wire.StartRequest{ID: "second", Shell: "true"})
	wantCode(t, err, wire.Conflict, "second")
	stats, err := s.client.Stats(context2(t))
	if err != nil || stats.Processes != 1 || stats.MemTotal <= 0 || stats.DiskTotal <= 0 || stats.AgentRSS <= 0 || stats.CPUSeconds <= 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
}

func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root can switch users")
	}
	s := start(t, guest.ServeConfig{})
	os.Chmod(s.root, 0o755)
	os.Chmod(filepath.Dir(s.root), 0o755)
	must := os.MkdirAll(s.root+"/etc", 0o755)
	must = errors.Join(must, os.WriteFile(s.root+"/etc/passwd", []byte("root:x:0:0::/root:/bin/sh\nann:x:1234:1235::/home/ann:/bin/sh\n"), 0o644))
	must = errors.Join(must, os.WriteFile(s.root+"/etc/group", []byte("ann:x:1235:\nwheel:x:77:bob,ann\n"), 0o644))
	if must != nil {
		t.Fatal(must)
	}
	for user, want := range map[string]string{
		"":          "0 0 0 /root",
		"ann":       "1234 1235 1235 77 /home/ann",
		"1234":      "1234 1235 1235 77 /home/ann",
		"ann:wheel": "1234 77 77 /home/ann",
		"5000":      "5000 0 0 /",
		"5000:6000": "5000 6000 6000 /",
	} {
		out, errOut, _ := s.run(t, wire.StartRequest{Shell: `echo $(id -u) $(id -g) $(id -G) $HOME`, User: user, Dir: "/"})
		if strings.TrimSpace(out) != want {
			t.Errorf("user %q: %q %s, want %q", user, out, errOut, want)
		}
	}
}

// TestUnprivileged runs the other tests as an ordinary user.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("needs root and time: only root can become another user for it")
	}
	dir, err := os.MkdirTemp("", "agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o1777)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "test")
	if err := os.WriteFile(bin, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-test.short", "-test.timeout=5m")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
