package bandsox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newManager is a manager over the process fake: the real agent as a process
// of this host, so that everything but the machine is the real thing.
func newManager(t *testing.T, dir string) *Manager {
	t.Helper()
	m, err := openFake(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, m) })
	return m
}

// newSharedManager is one of several in one state directory, as commands are.
func newSharedManager(t *testing.T, dir string) *Manager {
	t.Helper()
	m, err := openFakeWith(t.Context(), Config{Storage: dir, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, m) })
	return m
}

// shut deletes every sandbox of m and closes it.
func shut(t *testing.T, m *Manager) {
	ctx := context.Background()
	list, _ := m.List(ctx, ListOptions{})
	for _, i := range list {
		if sb, err := m.Get(ctx, i.ID); err == nil {
			if err := sb.Delete(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	m.Close()
}

func openFake(ctx context.Context, dir string) (*Manager, error) {
	return openFakeWith(ctx, Config{Storage: dir})
}

func openFakeWith(ctx context.Context, cfg Config) (*Manager, error) {
	cfg.Log = discardLog()
	m, err := open(ctx, cfg, vmtest.NewProcess())
	if err != nil {
		return nil, err
	}
	m.builds = filepath.Join(cfg.Storage, "no-builds")
	return m, nil
}

// testImage is a directory with one file in it, as an image.
func testImage(t *testing.T) string { return vmtest.Image(t) }

func create(t *testing.T, m *Manager, o CreateOptions) *Sandbox {
	t.Helper()
	if o.Image == "" {
		o.Image = testImage(t)
	}
	sb, err := m.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return sb
}

// nothingLeft fails the test unless the state directory holds no sandbox and
// nothing half-written.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{"sandboxes", "scratch"} {
		filepath.WalkDir(filepath.Join(dir, sub), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("left behind: %s", path)
			}
			return nil
		})
	}
	found, err := vmtest.NewProcess().Find(t.Context(), dir)
	if err != nil || len(found) > 0 {
		t.Errorf("machines left running: %v %v", found, err)
	}
}

func TestLifeOfASandbox(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, dir)
	sb := create(t, m, CreateOptions{Name: "box", Env: map[string]string{"FROM_CREATE": "yes"}, Metadata: map[string]any{"k": "v"}})
	ctx := t.Context()

	out, err := sb.Command("sh", "-c", "echo $FROM_CREATE $FROM_CMD; echo err >&2").Output(ctx)
	if err != nil || string(out) != "yes\n" {
		t.Errorf("output: %q %v", out, err)
	}
	var exit *ExitError
	if _, err := sb.Shell("echo why >&2; exit 3").Output(ctx); !errors.As(err, &exit) || exit.Code != 3 || string(exit.Stderr) != "why\n" {
		t.Errorf("exit code: %v", err)
	}
	for _, bad := range []*Cmd{{Dir: "relative"}, {Dir: "../up"}, {User: ":"}, {User: ":0"}, {User: "0:"}} {
		cmd := sb.Command("true")
		cmd.Dir, cmd.User = bad.Dir, bad.User
		if err := cmd.Run(ctx); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "must be") {
			t.Errorf("in %q as %q: %v", bad.Dir, bad.User, err)
		}
	}
	if err := sb.Command("no-such-program").Run(ctx); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such program: %v", err)
	}
	info, err := sb.Info(ctx)
	if err != nil || info.Status != StateRunning || info.Name != "box" || info.PID == 0 || len(info.Phases) == 0 || !info.AgentReady {
		t.Errorf("info: %+v %v", info, err)
	}
	if got, err := m.Get(ctx, "box"); err != nil || got != sb {
		t.Errorf("by name: %v %v", got, err)
	}
	if _, err := m.Create(ctx, CreateOptions{Image: info.Image, Name: "box"}); !errors.Is(err, ErrConflict) {
		t.Errorf("a second of the name: %v", err)
	}
	if err := sb.Stop(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := sb.Command("true").Run(ctx); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("a command in a stopped sandbox: %v", err)
	}
	if err := sb.Stop(ctx, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("stopping twice: %v", err)
	}
	if err := sb.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := sb.Start(ctx); !errors.Is(err, ErrConflict) {
		t.Errorf("starting twice: %v", err)
	}
	if out, err := sb.Shell("echo again").Output(ctx); err != nil || string(out) != "again\n" {
		t.Errorf("after a restart: %q %v", out, err)
	}
	if err := sb.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if err := sb.Delete(ctx); err != nil {
		t.Errorf("deleting twice: %v", err)
	}
	if _, err := m.Get(ctx, "box"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
	nothingLeft(t, dir)
}

func TestCommandStreams(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	ctx := t.Context()
	t.Run("every byte comes back", func(t *testing.T) {
		data := bytes.Repeat([]byte("\x00\xff binary \n"), 1<<20)
		cmd := sb.Command("cat")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output(ctx)
		if err != nil || sha256.Sum256(out) != sha256.Sum256(data) {
			t.Errorf("%d bytes became %d: %v", len(data), len(out), err)
		}
	})
	t.Run("a timeout is its own error", func(t *testing.T) {
		cmd := sb.Command("sleep", "60")
		cmd.Timeout = 100 * time.Millisecond
		var exit *ExitError
		if err := cmd.Run(ctx); !errors.As(err, &exit) || !exit.Timeout {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelling kills", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		r, w := io.Pipe()
		defer w.Close()
		cmd := sb.Shell("echo up; sleep 60")
		cmd.Stdout = w
		if err := cmd.Start(ctx); err != nil {
			t.Fatal(err)
		}
		r.Read(make([]byte, 3))
		go io.Copy(io.Discard, r)
		cancel()
		if err := cmd.Wait(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a signal", func(t *testing.T) {
		cmd := sb.Command("sleep", "60")
		if err := cmd.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var exit *ExitError
		if err := cmd.Wait(ctx); !errors.As(err, &exit) || exit.Signal != syscall.SIGTERM || exit.Code != 143 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a terminal", func(t *testing.T) {
		cmd := sb.Shell("tty >/dev/null && stty size")
		cmd.TTY = &Size{Cols: 123, Rows: 45}
		out, err := cmd.Output(ctx)
		if err != nil || strings.TrimSpace(string(out)) != "45 123" {
			t.Errorf("got %q %v", out, err)
		}
	})
	t.Run("a writer that fails ends it", func(t *testing.T) {
		cmd := sb.Shell("while :; do echo y; done")
		cmd.Stdout = failingWriter{}
		if err := cmd.Run(ctx); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v", err)
		}
	})
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestFiles(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "new", "file") // the fake's guest is this host
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := sb.WriteFile(ctx, path, data, 0o640); err != nil {
		t.Fatal(err)
	}
	got, err := sb.ReadFile(ctx, path)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes became %d: %v", len(data), len(got), err)
	}
	st, err := sb.Stat(ctx, path)
	if err != nil || st.Size != int64(len(data)) || st.Mode != 0o640 || st.Type != "file" {
		t.Errorf("stat: %+v %v", st, err)
	}
	if _, err := sb.ReadFile(ctx, path+"no"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a missing file: %v", err)
	}
	_, err = sb.WriteFrom(ctx, path, io.MultiReader(strings.NewReader("half"), failingReader{}), 0)
	if err == nil {
		t.Error("a failing reader is no error")
	}
	if again, err := sb.ReadFile(ctx, path); err != nil || !bytes.Equal(again, data) {
		t.Errorf("a broken write changed the file: %d bytes, %v", len(again), err)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestAnotherManagerFindsTheMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newSharedManager(t, dir)
	sb := create(t, m, CreateOptions{Name: "box"})
	other := newSharedManager(t, dir)
	theirs, err := other.Get(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Command("true").Run(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("two talk to one agent: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := theirs.Shell("echo adopted").Output(t.Context()); err != nil || string(out) != "adopted\n" {
		t.Errorf("after the first manager left: %q %v", out, err)
	}
	_ = sb
}

func TestMachineKilledWhileACommandStreams(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	killWhileStreaming(t, sb)
	eventually(t, func() bool {
		info, err := sb.Info(t.Context())
		return err == nil && info.Status == StateFailed && info.Reason != ""
	})
}

// killWhileStreaming kills the sandbox's machine while a program floods its
// caller: who gets an error, and never the exit code 0.
func killWhileStreaming(t *testing.T, sb *Sandbox) {
	t.Helper()
	r, w := io.Pipe()
	defer w.Close()
	cmd := sb.Command("yes")
	cmd.Stdout = w
	if err := cmd.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Read(make([]byte, 2))
	go io.Copy(io.Discard, r)
	info, _ := sb.Info(t.Context())
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it never came true")
}

func TestManyCreatesOfOneImageBuildOneBase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, dir)
	image := testImage(t)
	var wg sync.WaitGroup
	digests := make([]string, 8)
	for i := range digests {
		wg.Go(func() {
			sb, err := m.Create(t.Context(), CreateOptions{Image: image})
			if err != nil {
				t.Error(err)
				return
			}
			info, _ := sb.Info(t.Context())
			digests[i] = info.Digest
		})
	}
	wg.Wait()
	if len(slices.Compact(digests)) != 1 {
		t.Errorf("one image, several digests: %v", digests)
	}
	bases, _ := filepath.Glob(filepath.Join(dir, "bases", "*.ext4"))
	if len(bases) != 1 {
		t.Errorf("bases: %v", bases)
	}
	images, err := m.Images(t.Context())
	if err != nil || len(images) != 1 || len(images[0].UsedBy) != 8 {
		t.Fatalf("images: %+v %v", images, err)
	}
	if err := m.RemoveImage(t.Context(), images[0].Digest); !errors.Is(err, ErrConflict) {
		t.Errorf("removing a base in use: %v", err)
	}
	if removed, err := m.PruneImages(t.Context(), true); err != nil || len(removed) != 0 {
		t.Errorf("pruned a base in use: %v %v", removed, err)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	m := newManager(t, dir)
	if _, err := m.Create(t.Context(), CreateOptions{Image: "oci:" + t.TempDir()}); err == nil {
		t.Fatal("created from an empty directory")
	}
	if _, err := m.Create(t.Context(), CreateOptions{Image: "nothing/here", Pull: PullNever}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	image := testImage(t)
	step = func(name string) {
		if name == "machine" {
			cancel()
		}
	}
	defer func() { step = func(string) {} }()
	if _, err := m.Create(ctx, CreateOptions{Image: image}); err == nil {
		t.Fatal("created though cancelled")
	}
	if list, err := m.List(t.Context(), ListOptions{}); err != nil || len(list) != 0 {
		t.Errorf("left: %v %v", list, err)
	}
	nothingLeft(t, dir)
}
