package guest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const subreaperEnv = "AGENT_TEST_SUBREAPER"

func TestMain(m *testing.M) {
	if os.Getenv(subreaperEnv) != "" {
		os.Exit(subreaper())
	}
	os.Exit(m.Run())
}

// TestAgentBinary holds the agent to what every guest pays for it.
func TestAgentBinary(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs go: not in PATH")
	}
	const pkg = "github.com/bandsox/bandsox/cmd/bandsox-agent"
	deps, err := exec.Command("go", "list", "-deps", pkg).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"net/http", "net", "os/exec", "crypto/rand", "crypto/tls", "log/slog"} {
		if strings.Contains("\n"+string(deps), "\n"+bad+"\n") {
			t.Errorf("the agent links %s", bad)
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if arch != "amd64" && testing.Short() {
			continue
		}
		out := filepath.Join(t.TempDir(), "agent")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -funcalign=16", "-o", out, pkg) // as make builds what ships
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", arch, err, b)
		}
		fi, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", arch, fi.Size())
		if fi.Size() > 3_000_000 {
			t.Errorf("%s: the agent has %d bytes, more than 3 MB", arch, fi.Size())
		}
	}
}

func TestMainRefuses(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("needs not to be PID 1")
	}
	if code := Main(); code != 125 {
		t.Errorf("exit code %d", code)
	}
}

func TestCommandLine(t *testing.T) {
	got := commandLine("console=hvc0 bandsox.halt=poweroff quiet bandsox.flag bandsox.a=b=c\n")
	if len(got) != 3 || got["halt"] != "poweroff" || got["a"] != "b=c" {
		t.Errorf("%v", got)
	}
}

// subreaper is PID 1 in small: orphans come to it, and it must reap them and
// tell them from its own.
func subreaper() int {
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	surviveSignals()
	s := newService(ServeConfig{Fake: true, Root: "/"})
	s.reaper = newReaper(true)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.reaper.run(ctx)
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGSEGV, unix.SIGABRT, unix.SIGUSR1, unix.SIGPIPE} {
		syscall.Kill(os.Getpid(), sig)
	}
	for i := range 20 {
		// Two orphans each, and a status that must not be mistaken.
		p, v, err := s.start(&wire.StartRequest{Shell: fmt.Sprintf("(true &) ; (sleep 0.05 >/dev/null 2>&1 &) ; exit %d", i)})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		for v.wait() {
			v.next(make([]byte, 100))
		}
		v.close()
		if got := p.ring.ending().Code; got != i {
			fmt.Printf("code %d, want %d\n", got, i)
			return 1
		}
	}
	for end := time.Now().Add(time.Minute); !childless(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			fmt.Println("zombies are left")
			return 1
		}
	}
	return 0
}

func TestReaper(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), subreaperEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAwaitDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vdb")
	err := awaitDevice(path, "disk", time.Millisecond)
	if wire.CodeOf(err) != wire.NotFound || !strings.Contains(err.Error(), "waiting for the disk: no "+path+" after 1ms") {
		t.Errorf("none: %v", err)
	}
	go os.WriteFile(path, nil, 0o600)
	if err := awaitDevice(path, "disk", time.Minute); err != nil {
		t.Errorf("a late one: %v", err)
	}
}

// cgroup2 finds a cgroup2 mount in which this test may make cgroups.
func cgroup2(t *testing.T) string {
	t.Helper()
	mounts, _ := os.ReadFile("/proc/mounts")
	for l := range strings.Lines(string(mounts)) {
		f := strings.Fields(l)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		dir, err := os.MkdirTemp(f[1], "agent-test-")
		if err != nil {
			t.Skipf("needs a cgroup2 to write to: %v", err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		if _, err := os.Stat(dir + "/cgroup.kill"); err != nil {
			t.Skip("needs cgroup.kill: Linux 5.14")
		}
		return dir
	}
	t.Skip("needs cgroup2: none is mounted")
	return ""
}

func TestCgroupKillsWhatEscapes(t *testing.T) {
	t.Parallel()
	dir := cgroup2(t)
	s := newService(ServeConfig{Fake: true, Root: t.TempDir(), Cgroup: dir + "/bandsox", Log: t.Logf})
	if s.cgroups == nil {
		t.Fatal("no cgroups")
	}
	t.Cleanup(func() { os.Remove(dir + "/bandsox") })
	t.Cleanup(s.close)
	p, v, err := s.start(&wire.StartRequest{Shell: "setsid sh -c 'sleep 1000 & echo $!; sleep 1000' & wait", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	buf := make([]byte, 100)
	for v.wait() {
		_, n := v.next(buf)
		out.Write(buf[:n])
	}
	v.close()
	if e := p.ring.ending(); !e.Timeout || e.Signal != 9 {
		t.Errorf("%+v", e)
	}
	var escaped int
	fmt.Sscan(out.String(), &escaped)
	for end := time.Now().Add(time.Minute); unix.Kill(escaped, 0) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", escaped))
			if !strings.Contains(string(b), ") Z ") { // init's to reap, not ours
				t.Fatalf("%d lives: %s", escaped, b)
			}
			break
		}
	}
	// A daemon may outlive its process, and is still in reach.
	q, v, err := s.start(&wire.StartRequest{ID: "daemon", Shell: "setsid sleep 1000 >/dev/null 2>&1 & exit 0"})
	if err != nil {
		t.Fatal(err)
	}
	for v.wait() {
		v.next(buf)
	}
	v.close()
	if pids := q.cgroup.pids(); len(pids) != 1 {
		t.Errorf("in the daemon's cgroup: %v", pids)
	}
	if err := q.signal(9, true); err != nil {
		t.Error(err)
	}
	if !q.cgroup.sweep(time.Minute) {
		t.Error("the cgroup is still there")
	}
	if err := q.signal(9, true); wire.CodeOf(err) != wire.Conflict {
		t.Errorf("after that: %v", err)
	}
}

// TestMakeMountPoint: whatever an image has in a mount point's place, the guest
// gets a directory there, and nothing it leads to is touched.
func TestMakeMountPoint(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.MkdirAll(at("full/inner"), 0o700), os.WriteFile(at("file"), []byte("x"), 0o644),
		os.Symlink("full", at("link")), os.Symlink("/no/where", at("dangling")), unix.Mkfifo(at("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"none", "full", "file", "link", "dangling", "fifo"} {
		if err := makeMountPoint(at(name)); err != nil {
			t.Error(err)
		}
		if fi, err := os.Lstat(at(name)); err != nil || !fi.IsDir() {
			t.Errorf("%s: %v %v", name, fi, err)
		}
	}
	if fi, err := os.Stat(at("full/inner")); err != nil || !fi.IsDir() {
		t.Errorf("a directory lost what was in it: %v", err)
	}
	if err := makeMountPoint(at("no/parent")); err == nil {
		t.Error("a mount point without a parent was made")
	}
}
