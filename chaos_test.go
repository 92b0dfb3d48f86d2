package bandsox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// chaosEnv has this program be a manager in which several goroutines do random
// things to random sandboxes until it is killed.
const chaosEnv = "BANDSOX_TEST_CHAOS"

const (
	chaosWorkers   = 4
	chaosSandboxes = 5 // names: more goroutines than sandboxes would only wait for each other
)

// chaosFor is how long the test lasts: make chaos asks for ten minutes.
func chaosFor(t *testing.T) time.Duration {
	if s := os.Getenv("BANDSOX_CHAOS"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if testing.Short() {
		return 2 * time.Second
	}
	return time.Minute
}

// TestChaos kills managers and machines at random while random operations are
// under way. What the next manager finds is true, whole and of use, and in the
// end nothing is left.
func TestChaos(t *testing.T) {
	t.Parallel()
	dir, image := t.TempDir(), testImage(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BANDSOX_CHAOS_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	rounds, ended := 0, time.Now().Add(chaosFor(t))
	for ; time.Now().Before(ended) && !t.Failed(); rounds++ {
		chaosRound(t, dir, image, rnd)
		m, err := openFake(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		allTrue(t, m)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	m, err := openFake(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, m)
	nothingLeft(t, dir)
	t.Logf("%d managers killed; seed %d", rounds, seed)
}

// chaosRound lets a manager live for a random time, kills machines of its and
// then itself.
func chaosRound(t *testing.T, dir, image string, rnd *rand.Rand) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), chaosEnv+"="+dir, "BANDSOX_TEST_IMAGE="+image, fmt.Sprintf("BANDSOX_CHAOS_SEED=%d", rnd.Uint64()))
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	life := time.Duration(rnd.IntN(3000)) * time.Millisecond
	for end := time.Now().Add(life); time.Now().Before(end); {
		time.Sleep(time.Duration(rnd.IntN(500)) * time.Millisecond)
		found, err := vmtest.NewProcess().Find(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 && rnd.IntN(3) == 0 {
			_ = syscall.Kill(found[rnd.IntN(len(found))].PID, syscall.SIGKILL)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if state := cmd.ProcessState; state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the manager ended by itself: %v\n%s", state, out.String())
	}
}

// beChaos is the manager's life, until it is killed. An error that no table,
// killer or race explains ends it, which fails the test.
func beChaos(dir string) int {
	ctx := context.Background()
	m, err := openFake(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "open:", err)
		return 1
	}
	seed, _ := strconv.ParseUint(os.Getenv("BANDSOX_CHAOS_SEED"), 10, 64)
	bad := make(chan error)
	for i := range chaosWorkers {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		go func() {
			for {
				if err := doRandom(ctx, m, rnd, os.Getenv("BANDSOX_TEST_IMAGE")); err != nil {
					bad <- err
				}
			}
		}()
	}
	fmt.Fprintln(os.Stderr, "unexpected:", <-bad)
	return 1
}

func doRandom(ctx context.Context, m *Manager, rnd *rand.Rand, image string) error {
	name := fmt.Sprintf("box%d", rnd.IntN(chaosSandboxes))
	sb, err := m.Get(ctx, name)
	what := "create"
	if errors.Is(err, ErrNotFound) {
		o := CreateOptions{Image: image, Name: name, AutoRemove: rnd.IntN(4) == 0}
		if rnd.IntN(4) == 0 {
			o.IdleTimeout, o.IdleAction = time.Second, []IdleAction{IdlePause, IdleStop, IdleDelete}[rnd.IntN(3)]
		}
		if rnd.IntN(8) == 0 {
			o.TTL = time.Second
		}
		_, err = m.Create(ctx, o)
	} else if err == nil {
		do := []string{"start", "start", "stop", "kill", "restart", "pause", "resume", "update", "delete", "exec", "exec", "exec", "list"}
		what = do[rnd.IntN(len(do))]
		switch what {
		case "exec":
			var out []byte
			if out, err = sb.Shell("echo right").Output(ctx); err == nil && string(out) != "right\n" {
				return fmt.Errorf("a program that succeeded said %q", out)
			}
		case "list":
			_, err = m.List(ctx, ListOptions{})
		case "update":
			v := strconv.Itoa(rnd.Int())
			err = sb.Update(ctx, Update{Metadata: map[string]any{"v": v}, Labels: map[string]*string{"v": &v}})
		default:
			err = sbDo(ctx, sb, what)
		}
	}
	var exit *ExitError
	for _, fine := range []error{nil, ErrConflict, ErrNotFound, ErrUnavailable} { // the table's, and the killer's
		if errors.Is(err, fine) {
			return nil
		}
	}
	if errors.As(err, &exit) && exit.Signal != 0 {
		return nil // a stop or kill came between
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}

// allTrue fails the test unless every record says what is: a running sandbox
// runs programs, a stopped one has no machine, two things of a sandbox agree,
// and nothing is there that no record owns.
func allTrue(t *testing.T, m *Manager) {
	t.Helper()
	ctx := t.Context()
	// A guest that was told to power off, or a machine that was just killed, may
	// end at this moment.
	var list []Info
	var odd []string
	for range 200 {
		if list, odd = oddities(t, m); len(odd) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, o := range odd {
		t.Error(o)
	}
	names := map[string]bool{}
	var wg sync.WaitGroup
	for _, i := range list {
		if names[i.Name] {
			t.Errorf("two have the name %s", i.Name)
		}
		names[i.Name] = true
		if i.Status == StateCreating || i.Status == StateDeleted || i.Doing != "" {
			t.Errorf("%s is still %s, doing %q", i.ID, i.Status, i.Doing)
		}
		if v, ok := i.Metadata["v"]; ok && v != i.Labels["v"] {
			t.Errorf("half an update: %v and %v", v, i.Labels["v"])
		}
		wg.Go(func() {
			sb, err := m.Get(ctx, i.ID)
			if err == nil && i.Status == StateRunning {
				var out []byte
				out, err = sb.Shell("echo right").Output(ctx)
				if err == nil && string(out) != "right\n" {
					err = fmt.Errorf("it said %q", out)
				}
			}
			if errors.Is(err, ErrUnavailable) { // then it ends at this moment, and its record says so
				for range 200 {
					if sb.state() != StateRunning {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
			// One that was idle meanwhile is a conflict, or gone.
			if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
				t.Errorf("a program in %s: %v", i.ID, err)
			}
		})
	}
	wg.Wait()
	eventually(t, func() bool { // one whose time is over may go at this moment
		dirs, _ := filepath.Glob(filepath.Join(m.Storage(), "sandboxes", "*"))
		for _, dir := range dirs {
			if _, err := m.Get(ctx, filepath.Base(dir)); err != nil {
				return false
			}
		}
		return true
	})
}

// oddities are the sandboxes and machines that don't agree.
func oddities(t *testing.T, m *Manager) (list []Info, odd []string) {
	t.Helper()
	list, err := m.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := m.driver.Find(t.Context(), m.Storage())
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]int{}
	for _, h := range found {
		machines[h.ID]++
	}
	for _, i := range list {
		runs := i.Status == StateRunning || i.Status == StatePaused
		if n := machines[i.ID]; runs != (n == 1) || n > 1 {
			odd = append(odd, fmt.Sprintf("%s is %s (%s) and has %d machines", i.ID, i.Status, i.Reason, n))
		}
		delete(machines, i.ID)
	}
	for id := range machines {
		odd = append(odd, "a machine of no sandbox: "+id)
	}
	return list, odd
}
