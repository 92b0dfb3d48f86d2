package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// programFlags are the flags of every command that runs a program in a sandbox.
type programFlags struct {
	workdir     string
	user        string
	timeout     duration
	interactive bool
	tty         bool
	json        bool
}

func (p *programFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.workdir, "workdir", "w", "", "directory to run it in (default the image's)")
	f.StringVarP(&p.user, "user", "u", "", "run it as NAME, UID, NAME:GROUP or UID:GID (default the image's)")
	f.Var(&p.timeout, "timeout", "kill it, and all it started, after this long: 30s, 5m; exit code 124")
	f.BoolVarP(&p.interactive, "interactive", "i", false, "connect its standard input to ours")
	f.BoolVarP(&p.tty, "tty", "t", false, "give it a terminal")
	f.BoolVar(&p.json, "json", false, "print one JSON object with its output and exit code")
	f.SetInterspersed(false) // what follows the image or sandbox is the program's own
}

// job is one program run for the command line: its streams, terminal and end.
type job struct {
	flags  programFlags
	app    *app
	out    bytes.Buffer // with --json
	errOut bytes.Buffer
	tty    *localTTY
}

func (a *app) newJob(p programFlags) (*job, error) {
	j := &job{flags: p, app: a}
	if err := checkPlace(p.workdir, p.user); err != nil {
		return nil, err
	}
	if p.tty && p.json {
		return nil, usageError("--tty and --json don't go together: a terminal mixes output and errors")
	}
	if p.tty {
		tty, err := openTTY(p.interactive)
		if err != nil {
			return nil, err
		}
		j.tty = tty
	}
	return j, nil
}

// checkPlace refuses, before there is a machine, what none can make sense of.
func checkPlace(workdir, user string) error {
	name, group, withGroup := strings.Cut(user, ":")
	switch {
	case workdir != "" && !path.IsAbs(workdir):
		return usageError("--workdir %q: must be an absolute path", workdir)
	case withGroup && (name == "" || group == ""):
		return usageError("--user %q: must be NAME, UID, NAME:GROUP or UID:GID", user)
	}
	return nil
}

// prepare connects cmd to our streams.
func (j *job) prepare(cmd *client.Cmd) {
	j.app.bars.finish()
	cmd.Dir, cmd.User, cmd.Timeout = j.flags.workdir, j.flags.user, time.Duration(j.flags.timeout)
	if j.flags.interactive {
		cmd.Stdin = os.Stdin
	}
	cmd.Stdout, cmd.Stderr = io.Writer(os.Stdout), io.Writer(os.Stderr)
	if j.flags.json {
		cmd.Stdout, cmd.Stderr = &j.out, &j.errOut
	}
	if j.tty != nil {
		j.tty.connect(cmd)
	}
	j.app.interrupts.passTo(cmd.Signal)
}

// result is what --json prints. Output that is not UTF-8 comes as *_base64.
type result struct {
	ID           string          `json:"id"`
	Image        string          `json:"image"`
	ExitCode     int             `json:"exit_code"`
	Signal       int             `json:"signal,omitempty"`
	Timeout      bool            `json:"timeout,omitempty"`
	OOM          bool            `json:"oom,omitempty"`
	Stdout       *string         `json:"stdout,omitempty"`
	StdoutBase64 []byte          `json:"stdout_base64,omitempty"`
	Stderr       *string         `json:"stderr,omitempty"`
	StderrBase64 []byte          `json:"stderr_base64,omitempty"`
	Error        string          `json:"error,omitempty"`
	Code         bandsox.Code    `json:"code,omitempty"`
	Hint         string          `json:"hint,omitempty"`
	Phases       []bandsox.Phase `json:"phases,omitempty"`
}

// finish puts the terminal right and, with --json, prints the result.
func (j *job) finish(info bandsox.Info, err error) error {
	j.app.interrupts.passTo(nil)
	if j.tty != nil {
		j.tty.restore()
	}
	if code, ok := j.app.interrupts.ended(err); ok {
		return code
	}
	if !j.flags.json {
		return err
	}
	r := result{ID: info.ID, Image: info.Image, Phases: info.Phases}
	return r.print(j.out.Bytes(), j.errOut.Bytes(), err)
}

// print prints the result of a program: its output, and the end that err tells of.
func (r result) print(out, errOut []byte, err error) error {
	r.Stdout, r.StdoutBase64 = textOrBytes(out)
	r.Stderr, r.StderrBase64 = textOrBytes(errOut)
	var exit *bandsox.ExitError
	var e *bandsox.Error
	if err != nil {
		r.ExitCode = report(io.Discard, err)
	}
	switch {
	case errors.As(err, &exit):
		r.Signal, r.Timeout, r.OOM = int(exit.Signal), exit.Timeout, exit.OOM
	case errors.As(err, &e):
		r.Error, r.Code, r.Hint = err.Error(), e.Code, e.Hint
	case err != nil:
		r.Error = err.Error()
	}
	if werr := writeJSON(os.Stdout, r); werr != nil {
		return werr
	}
	return exitCode(r.ExitCode)
}

func textOrBytes(b []byte) (*string, []byte) {
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

func newRun(a *app) *cobra.Command {
	var create createFlags
	var program programFlags
	var keep, rm bool
	var entrypoint string
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Run a program in a new microVM and throw it away",
		Long: `Run a program in a new microVM and throw the microVM away.

IMAGE is a name (looked for in the local store, then a running docker daemon,
then its registry), or docker-daemon:NAME, docker-archive:FILE, oci-archive:FILE,
oci:DIR, dir:DIR, or bandsox/base, a Debian with Python made from Debian's own
packages. Without COMMAND the image's own is run.

The exit code is the program's own; 124 when --timeout ran out, 125 for errors
of BandSox, 126 and 127 when the program can't be run or is not there, 128+N
when signal N ended it. Ctrl-C goes to the program; a second one leaves at once.`,
		Example: `  bandsox run alpine uname -a
  bandsox run -it --mem 1g python:3-alpine
  tar c . | bandsox run -i alpine tar x
  bandsox run --json --timeout 10s alpine sh -c 'echo hello'`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := create.options(args[0])
			if err != nil {
				return err
			}
			if keep && rm {
				return usageError("--keep and --rm don't go together")
			}
			j, err := a.newJob(program)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(m *client.Client) error {
				if j.tty != nil {
					defer a.interrupts.onExit(j.tty.restore)()
				}
				if o.Image, err = a.image(cmd.Context(), m, o.Image); err != nil {
					return j.finish(bandsox.Info{Image: args[0]}, err)
				}
				run := client.RunOptions{CreateOptions: o, Args: args[1:], Keep: keep, Prepare: j.prepare}
				if cmd.Flags().Changed("entrypoint") {
					run.Entrypoint = []string{}
					if entrypoint != "" {
						run.Entrypoint = []string{entrypoint}
					}
				}
				info, err := m.Run(a.shown(cmd.Context()), run)
				if keep && info.ID != "" && !program.json {
					defer cmd.PrintErrln("kept: " + info.ID)
				}
				if info.Image == "" {
					info.Image = args[0]
				}
				return j.finish(info, err)
			})
		},
	}
	create.add(cmd.Flags(), bandsox.RunMemMiB)
	program.add(cmd)
	cmd.Flags().StringVar(&entrypoint, "entrypoint", "", "program to run in place of the image's, with COMMAND as its arguments; '' for none")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the microVM running afterwards")
	cmd.Flags().BoolVar(&rm, "rm", false, "throw the microVM away afterwards: the default, for docker's sake")
	return cmd
}

func newExec(a *app) *cobra.Command {
	var program programFlags
	var env, envFiles []string
	var detach bool
	cmd := &cobra.Command{
		Use:   "exec [flags] SANDBOX COMMAND [ARG...]",
		Short: "Run a program in a running sandbox",
		Long: `Run a program in a running sandbox. Exit codes are those of bandsox run.

With --detach it is left running, with -i its input open, and its id printed:
for bandsox attach and bandsox top.`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			vars, err := parseEnv(envFiles, env)
			if err != nil {
				return err
			}
			if detach {
				return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
					c := sb.Command(args[1], args[2:]...)
					c.Env = envPairs(vars)
					return a.detached(cmd.Context(), program, c)
				})
			}
			j, err := a.newJob(program)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(m *client.Client) error {
				sb, err := m.Get(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if j.tty != nil {
					defer a.interrupts.onExit(j.tty.restore)()
				}
				c := sb.Command(args[1], args[2:]...)
				j.prepare(c)
				c.Env = envPairs(vars)
				err = c.Run(cmd.Context())
				info, _ := sb.Info(context.WithoutCancel(cmd.Context()))
				info.Phases = nil
				return j.finish(info, err)
			})
		},
	}
	program.add(cmd)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave it running and print its id")
	cmd.Flags().StringArrayVarP(&env, "env", "e", nil, "KEY=VALUE, or KEY to pass this one on; repeatable")
	cmd.Flags().StringArrayVar(&envFiles, "env-file", nil, "file of KEY=VALUE lines; repeatable")
	return cmd
}
