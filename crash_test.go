package bandsox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestMain lets the test program be, besides the tests, the process fake's
// machine, the creator that is killed and the viewer that is.
func TestMain(m *testing.M) {
	if at := os.Getenv("BANDSOX_TEST_DIE_AT"); at != "" {
		os.Unsetenv("BANDSOX_TEST_DIE_AT") // the machine that it starts is this program too
		os.Exit(createAndDie(at))
	}
	if os.Getenv(viewEnv) != "" {
		os.Exit(view())
	}
	if dir := os.Getenv(chaosEnv); dir != "" {
		os.Unsetenv(chaosEnv)
		os.Exit(beChaos(dir))
	}
	if dir := os.Getenv(scaleEnv); dir != "" {
		os.Unsetenv(scaleEnv)
		os.Exit(beMeasured(dir))
	}
	vmtest.Main(func() int {
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	})
}

var steps = []string{"record", "image", "disk", "machine", "boot", "running"}

// createAndDie does something to the sandbox "box" and kills itself, as by
// kill -9, at a step.
func createAndDie(at string) int {
	ctx := context.Background()
	m, err := openAny(ctx, os.Getenv("BANDSOX_TEST_DIR"), os.Getenv("BANDSOX_TEST_AGENT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	step = func(name string) {
		if name == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, "still alive:", doToBox(ctx, m, os.Getenv("BANDSOX_TEST_DO"), os.Getenv("BANDSOX_TEST_IMAGE")))
	return 1
}

func doToBox(ctx context.Context, m *Manager, do, image string) error {
	if do == "create" || do == "create and delete" || do == "create to stay" {
		sb, err := m.Create(ctx, CreateOptions{Image: image, Name: "box", AutoRemove: do != "create to stay"})
		if err == nil && do == "create and delete" {
			err = sb.Delete(ctx)
		}
		return err
	}
	sb, err := m.Get(ctx, "box")
	if err != nil {
		return err
	}
	if do == "hold" {
		fmt.Println("up")
		select {}
	}
	return sbDo(ctx, sb, do)
}

// sbDo does to a sandbox what a word says.
func sbDo(ctx context.Context, sb *Sandbox, do string) error {
	switch do {
	case "start":
		return sb.Start(ctx)
	case "stop":
		return sb.Stop(ctx, time.Second)
	case "kill":
		return sb.Kill(ctx)
	case "restart":
		return sb.Restart(ctx, time.Second)
	case "pause":
		return sb.Pause(ctx)
	case "resume":
		return sb.Resume(ctx)
	case "update":
		return sb.Update(ctx, Update{Metadata: map[string]any{"is": "new"}})
	case "delete":
		return sb.Delete(ctx)
	case "snapshot":
		_, err := sb.Snapshot(ctx, SnapshotOptions{Name: "shot"})
		return err
	case "fork":
		children, err := sb.Fork(ctx, 1, ForkOptions{})
		for _, child := range children {
			err = errors.Join(err, child.Delete(ctx))
		}
		return err
	case "leave":
		cmd := sb.Shell("exit 5")
		cmd.Detach = true
		err := cmd.Start(ctx)
		step("left")
		return err
	}
	return fmt.Errorf("do what? %q", do)
}

// openAny opens a state directory for real machines, if there is an agent for
// them, else for the fake's.
func openAny(ctx context.Context, dir, agent string) (*Manager, error) {
	if agent == "" {
		return openFake(ctx, dir)
	}
	return Open(ctx, Config{Storage: dir, Agent: agent, Log: discardLog(), NoTemplates: true})
}

// killCreator has another process create a sandbox and kills it at a step.
func killCreator(t *testing.T, at, dir, image, agent string) {
	t.Helper()
	do := "create"
	if at == "deleted" {
		do = "create and delete"
	}
	killDoing(t, do, at, dir, image, agent)
}

// killDoing has another process do something to the sandbox "box" and kills it
// at a step.
func killDoing(t *testing.T, do, at, dir, image, agent string) {
	t.Helper()
	cmd := dying(do, at, dir, image, agent)
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	if state := cmd.ProcessState; state == nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v\n%s", err, out.String())
	}
}

func dying(do, at, dir, image, agent string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BANDSOX_TEST_DIE_AT="+at, "BANDSOX_TEST_DO="+do, "BANDSOX_TEST_DIR="+dir,
		"BANDSOX_TEST_IMAGE="+image, "BANDSOX_TEST_AGENT="+agent)
	cmd.WaitDelay = 10 * time.Second // the machine may hold our pipe
	return cmd
}

// TestKilledCreator kills the creating process at every step: the next manager
// undoes what it did, and a second create of the same name works.
func TestKilledCreator(t *testing.T) {
	t.Parallel()
	image := testImage(t)
	for _, at := range append(steps, "deleted") {
		t.Run(at, func(t *testing.T) {
			dir := t.TempDir()
			killCreator(t, at, dir, image, "")
			m := newManager(t, dir) // its Open undoes
			undone(t, m)
			nothingLeft(t, dir)
			secondCreate(t, m, image)
		})
	}
}

// undone fails the test if a sandbox or anything to clean up is there.
func undone(t *testing.T, m *Manager) {
	t.Helper()
	if list, err := m.List(t.Context(), ListOptions{}); err != nil || len(list) > 0 {
		t.Errorf("still there: %+v %v", list, err)
	}
	if found, err := m.driver.Find(t.Context(), m.Storage()); err != nil || len(found) > 0 {
		t.Errorf("machines left running: %v %v", found, err)
	}
	if found, err := m.Cleanup(t.Context(), false); err != nil || len(found) > 0 {
		t.Errorf("left to clean up: %+v %v", found, err)
	}
}

func secondCreate(t *testing.T, m *Manager, image string) {
	t.Helper()
	sb := create(t, m, CreateOptions{Image: image, Name: "box"})
	if out, err := sb.Shell("echo fine").Output(t.Context()); err != nil || string(out) != "fine\n" {
		t.Errorf("a second create: %q %v", out, err)
	}
}

// TestAbandonWhileBooting: who leaves now takes even a machine along that is
// in nobody's hand yet.
func TestAbandonWhileBooting(t *testing.T) {
	for _, at := range []string{"machine", "boot"} {
		t.Run(at, func(t *testing.T) {
			dir := t.TempDir()
			m := newManager(t, dir)
			keep := create(t, m, CreateOptions{})
			before := step
			defer func() { step = before }()
			step = func(name string) {
				if name != at {
					return
				}
				if err := m.Abandon(); err != nil {
					t.Error(err)
				}
				if found, err := m.driver.Find(t.Context(), dir); err != nil || len(found) != 1 || found[0].ID != keep.ID() {
					t.Errorf("machines left running: %+v %v", found, err)
				}
			}
			if _, err := m.Create(t.Context(), CreateOptions{Image: testImage(t)}); err == nil {
				t.Error("a sandbox without a machine was created")
			}
			if out, err := keep.Shell("echo alive").Output(t.Context()); err != nil || string(out) != "alive\n" {
				t.Errorf("a sandbox that was to stay: %q %v", out, err)
			}
		})
	}
}

// TestCleanupSaysBeforeItDoes kills a creator and has cleanup, not Open, find
// what it left: a dry run leaves that alone.
func TestCleanupSaysBeforeItDoes(t *testing.T) {
	dir, image := t.TempDir(), testImage(t)
	killCreator(t, "running", dir, image, "")
	m, err := openFakeWith(t.Context(), Config{Storage: dir, KeepLeftovers: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, dryRun := range []bool{true, true, false} {
		found, err := m.Cleanup(t.Context(), dryRun)
		if err != nil || len(found) != 2 || found[0].Kind != "sandbox" || found[1].Kind != "scratch" {
			t.Errorf("dry run %v: found %+v %v", dryRun, found, err)
		}
	}
	if found, err := m.Cleanup(t.Context(), false); err != nil || len(found) != 0 {
		t.Errorf("after a cleanup: %+v %v", found, err)
	}
	nothingLeft(t, dir)
}

// TestCleanupSeesWhatIsLeft lets cleanup, not Open, find what is nobody's.
func TestCleanupSeesWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	m := newManager(t, dir)
	sb := create(t, m, CreateOptions{})
	stray := m.store.Sandbox("strayxstrayxstrayxst")
	if err := os.MkdirAll(stray, 0o700); err != nil {
		t.Fatal(err)
	}
	// A machine whose record is lost.
	lost := create(t, m, CreateOptions{})
	if err := m.store.Remove(t.Context(), lost.ID()); err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		found, err := m.Cleanup(t.Context(), dryRun)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, l := range found {
			kinds = append(kinds, l.Kind)
		}
		if got := strings.Join(kinds, " "); got != "machine directory directory" {
			t.Errorf("dry run %v found %q: %+v", dryRun, got, found)
		}
	}
	if found, err := m.Cleanup(t.Context(), false); err != nil || len(found) > 0 {
		t.Errorf("a second cleanup found %+v %v", found, err)
	}
	if out, err := sb.Shell("echo alive").Output(t.Context()); err != nil || string(out) != "alive\n" {
		t.Errorf("cleanup hurt a living sandbox: %q %v", out, err)
	}
}
