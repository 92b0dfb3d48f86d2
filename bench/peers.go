package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
)

// open makes a state directory of the benchmark's own, with a kernel in it.
func open(ctx context.Context, storage string) (*bandsox.Manager, error) {
	say("getting a kernel")
	if _, err := bandsox.Init(ctx, bandsox.InitOptions{Storage: storage}); err != nil {
		return nil, err
	}
	return bandsox.Open(ctx, bandsox.Config{Storage: storage, Shared: true, NoTemplates: true, Log: slog.New(slog.DiscardHandler)})
}

func codeOf(err error) bandsox.Code {
	if e := (*bandsox.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return bandsox.CodeInternal
}

// benchDocker runs the same image's program with both command lines: a
// container shares the host's kernel, a sandbox has its own. Its server, with a
// state directory to itself, goes on from a template after the first.
func benchDocker(ctx context.Context, r *report, in *inputs, d *docker, bin, kernels string, rounds int) (err error) {
	storage := filepath.Join(in.dir, "cli")
	if err := os.MkdirAll(storage, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(kernels, filepath.Join(storage, "kernels")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, check(exec.Command(bin, "--storage", storage, "serve", "--stop"))) }()
	const name = "bandsox-bench"
	if err := d.run(ctx, "import", in.rootfs, name+":1"); err != nil {
		return err
	}
	if err := d.run(ctx, "run", "-d", "--name", name, name+":1", "/bin/guest", "sleep"); err != nil {
		return err
	}
	defer d.run(context.WithoutCancel(ctx), "rm", "-f", name)
	ours := func(args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, bin, append([]string{"--storage", storage, "--quiet"}, args...)...)
	}
	id := name
	if err := check(ours("create", "--name", id, "--mem", fmt.Sprint(memMiB), in.ref)); err != nil {
		return err
	}
	defer check(exec.Command(bin, "--storage", storage, "rm", "-f", id))

	run := func() *exec.Cmd {
		return ours("run", "--mem", fmt.Sprint(memMiB), in.ref, "/bin/guest", "say", "hello")
	}
	if err := hello(run()); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if made, err := os.ReadDir(filepath.Join(storage, "templates")); err == nil && len(made) > 0 {
			break
		}
	}
	var runs, dockerRuns, execs, dockerExecs samples
	for i := range rounds {
		say("docker: round %d of %d", i+1, rounds)
		for _, step := range []struct {
			to  *samples
			cmd *exec.Cmd
		}{
			{&runs, run()},
			{&dockerRuns, d.command(ctx, "run", "--rm", name+":1", "/bin/guest", "say", "hello")},
			{&execs, ours("exec", id, "/bin/guest", "say", "hello")},
			{&dockerExecs, d.command(ctx, "exec", name, "/bin/guest", "say", "hello")},
		} {
			took, err := timed(func() error { return hello(step.cmd) })
			if err != nil {
				return err
			}
			*step.to = append(*step.to, took)
		}
	}
	r.add(
		row{What: "run and throw away", Unit: "s", Ours: runs.median(), Peer: "docker run --rm", Their: dockerRuns.median(), Bar: "ratio <= 1.0", Runs: rounds, Note: "two command lines; ours goes on from a template"},
		row{What: "exec in a running one", Unit: "s", Ours: execs.median(), Peer: "docker exec", Their: dockerExecs.median(), Runs: rounds, Note: "two command lines; no bar yet"},
	)
	return nil
}

func hello(cmd *exec.Cmd) error {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil && string(out) != "hello\n" {
		err = fmt.Errorf("the program said %q", out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return nil
}
