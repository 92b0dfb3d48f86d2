package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func TestMain(m *testing.M) {
	vmtest.Main(func() int {
		testscript.Main(m, map[string]func(){"bandsox": main})
		return 0
	})
}

// TestHostScripts runs the command line as a person would, where no machine is
// needed. Each script has a state directory of its own.
func TestHostScripts(t *testing.T) {
	testscript.Run(t, scripts("host", func(*testscript.Env) error { return nil }))
}

// TestFakeScripts does so with machines that are processes of this host.
func TestFakeScripts(t *testing.T) {
	image := vmtest.Image(t)
	testscript.Run(t, scripts("fake", func(e *testscript.Env) error {
		e.Setenv("BANDSOX_DRIVER", "process")
		e.Setenv("IMAGE", image)
		return nil
	}))
}

// TestMachineScripts does so with real machines.
func TestMachineScripts(t *testing.T) {
	vmtest.NeedQEMU(t)
	kit := vmKit(t)
	testscript.Run(t, scripts("vm", kit.install))
}

func scripts(dir string, setup func(*testscript.Env) error) testscript.Params {
	return testscript.Params{
		Dir: filepath.Join("testdata/script", dir),
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", e.Getenv("PATH")+":/usr/sbin:/sbin")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("FROM_HOST", "yes")
			e.Setenv("BANDSOX_STORAGE", filepath.Join(e.WorkDir, "state"))
			e.Defer(func() {
				stop := exec.Command("bandsox", "serve", "--stop")
				stop.Env = e.Vars
				if out, err := stop.CombinedOutput(); err != nil {
					e.T().Log("stopping the server: ", err, string(out))
				}
			})
			return setup(e)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exit": exitWith},
	}
}

// exitWith is `exit CODE PROGRAM ARG...`: the program must end with that code.
func exitWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// kit is what real machines need: installed kernels, the agent, and a small
// image with busybox in it.
type kit struct{ kernels, agent, image string }

// install readies a script's state directory.
func (k kit) install(e *testscript.Env) error {
	state := e.Getenv("BANDSOX_STORAGE")
	if err := os.MkdirAll(state, 0o755); err != nil {
		return err
	}
	e.Setenv("BANDSOX_AGENT", k.agent)
	e.Setenv("BANDSOX_NO_TEMPLATES", "1") // each would cost a boot beside the script's own
	e.Setenv("IMAGE", k.image)
	return os.Symlink(k.kernels, filepath.Join(state, "kernels"))
}

func vmKit(t testing.TB) kit {
	t.Helper()
	return kit{kernels: vmtest.Kernels(t), agent: vmtest.Program(t, "cmd/bandsox-agent"), image: vmtest.Busybox(t)}
}
