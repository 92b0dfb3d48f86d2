package vmtest

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// Run is the contract of a driver, with a real agent in every machine. Each
// call of newDriver stands for another manager.
func Run(t *testing.T, newDriver func() vm.Driver, e Env) {
	for _, c := range []struct {
		name  string
		needs bool
		test  func(*suite)
	}{
		{"Life", true, (*suite).life},
		{"KilledWhileStreaming", true, (*suite).killedWhileStreaming},
		{"GuestPowersOff", true, (*suite).guestPowersOff},
		{"GuestRestarts", e.Can.Kernel, (*suite).guestRestarts},
		{"GuestPanics", e.Can.Kernel, (*suite).guestPanics},
		{"Adopt", true, (*suite).adopt},
		{"EndsUnwatched", true, (*suite).endsUnwatched},
		{"Gone", true, (*suite).gone},
		{"Save", true, (*suite).save},
		{"BadSaved", true, (*suite).badSaved},
		{"BadSpec", true, (*suite).badSpec},
		{"BadKernel", e.Can.Kernel, (*suite).badKernel},
		{"SurvivesKill", e.Can.Drives, (*suite).survivesKill},
		{"BadDrives", e.Can.Drives && e.Can.Kernel, (*suite).badDrives},
		{"Space", e.Can.Drives, (*suite).space},
		{"Grow", e.Can.Drives, (*suite).grow},
		{"Scratch", e.Can.Drives && e.Can.Kernel, (*suite).scratch},
		{"Files", true, (*suite).files},
		{"Leavers", true, (*suite).leavers},
		{"Replay", true, (*suite).replay},
		{"Hostile", e.Can.Kernel, (*suite).hostile},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.needs {
				t.Skip("needs a machine that can do it: " + newDriver().Name() + " can't")
			}
			if !e.Can.Kernel {
				t.Parallel() // processes take no memory worth the name, and their tests wait
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			c.test(&suite{T: t, Env: e, ctx: ctx, driver: newDriver(), newDriver: newDriver, dir: t.TempDir()})
		})
	}
}

type suite struct {
	*testing.T
	Env
	ctx       context.Context
	driver    vm.Driver
	newDriver func() vm.Driver
	dir       string
}

// sub runs test as a part, on a machine that the parts share.
func (s *suite) sub(name string, test func(*suite)) {
	s.Helper()
	s.Run(name, func(t *testing.T) {
		part := *s
		part.T = t
		test(&part)
	})
}

// boot starts a machine, which ends with the test.
func (s *suite) boot(spec vm.Spec) vm.Machine {
	s.Helper()
	m, err := s.driver.Boot(s.ctx, spec)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { s.end(m.Handle()) })
	return m
}

// end kills whatever is left of a machine, whoever has it.
func (s *suite) end(h vm.Handle) {
	m, err := s.newDriver().Adopt(context.Background(), h)
	if err == nil {
		err = m.Kill()
	}
	if err != nil && wire.CodeOf(err) != wire.NotFound {
		s.Errorf("ending the machine: %v", err)
	}
}

// connect shakes hands with a machine's agent.
func (s *suite) connect(m vm.Machine) *agent.Client {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, Timeout)
	defer cancel()
	c, err := agent.Connect(ctx, m.Dial)
	if err != nil {
		s.Fatalf("%v\nthe console:\n%s", err, s.console(m))
	}
	s.Cleanup(func() { c.Close() })
	return c
}

// tool runs the tool to its end.
func (s *suite) tool(c *agent.Client, args ...string) (stdout, stderr string, exit wire.Exit) {
	s.Helper()
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: append([]string{s.Tool}, args...)})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	var out, errs bytes.Buffer
	exit, err = p.Copy(&out, &errs)
	if err != nil {
		s.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), exit
}

func (s *suite) console(m vm.Machine) string {
	r, err := m.Console(s.ctx)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// ended waits for a machine's end and returns why it was.
func (s *suite) ended(m vm.Machine) error {
	s.Helper()
	select {
	case <-m.Done():
		return m.Err()
	case <-time.After(Timeout):
		s.Fatalf("the machine goes on; its console:\n%s", s.console(m))
		return nil
	}
}

// noSockets checks that a machine's end left nobody to wait for.
func (s *suite) noSockets(dir string) {
	s.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range entries {
		if e.Type() == os.ModeSocket {
			s.Errorf("socket %s was left behind", e.Name())
		}
	}
	found, err := s.newDriver().Find(s.ctx, dir)
	if err != nil || len(found) > 0 {
		s.Errorf("machines left behind: %v, %v", found, err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
