package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newTop(a *app) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "top [flags] SANDBOX",
		Short: "List the programs that were started in a sandbox",
		Long: `List the programs that were started in a sandbox, by whom ever, oldest first.
KEPT is how much of a program's output can still be read with bandsox attach.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				list, err := sb.Processes(cmd.Context())
				if err != nil {
					return err
				}
				shown := []bandsox.ProcessInfo{}
				for _, p := range list {
					if all || p.Exit == nil {
						shown = append(shown, p)
					}
				}
				if asJSON {
					return writeJSON(os.Stdout, shown)
				}
				t := newTable("ID", "PID", "USER", "TTY", "STARTED", "STATUS", "OUTPUT", "KEPT", "COMMAND")
				for _, p := range shown {
					tty := ""
					if p.TTY {
						tty = "yes"
					}
					t.row(p.ID, fmt.Sprint(p.PID), p.User, tty, ago(p.Started), exitText(p.Exit),
						bytesText(p.Output), bytesText(p.Output-p.Oldest), strings.Join(p.Argv, " "))
				}
				return t.print(os.Stdout)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that ended, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func exitText(e *bandsox.ProcessExit) string {
	switch {
	case e == nil:
		return "running"
	case e.Timeout:
		return "timed out"
	case e.OOM:
		return "out of memory"
	case e.Signal != 0:
		return fmt.Sprintf("signal %d", e.Signal)
	}
	return fmt.Sprintf("exited %d", e.Code)
}

func newAttach(a *app) *cobra.Command {
	var offset int64
	var newOnly, noStdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "attach [flags] SANDBOX PROCESS",
		Short: "Join a program that runs in a sandbox",
		Long: `Join a program that runs in a sandbox, or look at what one wrote that has ended.

PROCESS is an id of bandsox top, or its beginning. What is still kept of its
output comes first, then what it writes; our standard input is its own. Many
may be attached at a time. The exit code is the program's. Interrupts go to it;
on a terminal Ctrl-P Ctrl-Q leaves it to itself. With --no-stdin an interrupt
does.`,
		Example: `  id=$(bandsox exec -d box ./server)
  bandsox attach --no-stdin box $id`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				ctx := cmd.Context()
				p, err := sb.Process(ctx, args[1])
				if err != nil {
					return err
				}
				info, err := p.Info(ctx)
				if err != nil {
					return err
				}
				o := bandsox.AttachOptions{Offset: offset, NewOnly: newOnly, Stdout: os.Stdout, Stderr: os.Stderr}
				v := &viewing{a: a, p: p, tty: info.TTY && info.Exit == nil && !asJSON, onlooker: noStdin}
				if info.Stdin && info.Exit == nil && !noStdin {
					o.Stdin = os.Stdin
				}
				if !asJSON {
					return v.run(ctx, o)
				}
				var out, errOut bytes.Buffer
				o.Stdout, o.Stderr = &out, &errOut
				err = v.run(ctx, o)
				return result{ID: sb.ID()}.print(out.Bytes(), errOut.Bytes(), err)
			})
		},
	}
	f := cmd.Flags()
	f.Int64Var(&offset, "offset", 0, "byte of its output to begin at; negative: so many from the end")
	f.BoolVar(&newOnly, "new", false, "only what it writes from now on")
	f.BoolVar(&noStdin, "no-stdin", false, "leave its input alone")
	jsonFlag(cmd, &asJSON, "print one JSON object with its output and exit code")
	return cmd
}

// viewing is our terminal, or pipes, attached to a process.
type viewing struct {
	a   *app
	p   *client.Process
	tty bool // it has a terminal

	onlooker bool // what we do doesn't reach it
}

func (v *viewing) run(ctx context.Context, o bandsox.AttachOptions) error {
	v.a.bars.finish()
	left := make(chan struct{})
	var local *localTTY
	if v.tty {
		var err error
		if local, err = openTTY(false); err != nil {
			return err
		}
		defer local.restore()
		defer v.a.interrupts.onExit(local.restore)()
		keys := o.Stdin != nil && local.isTerminal()
		if keys {
			o.Stdin = &detachKeys{r: o.Stdin, left: left}
		}
		local.lend(keys, func(s bandsox.Size) error { return v.p.Resize(ctx, s) })
	}
	at, err := v.p.Attach(ctx, o)
	if err != nil {
		return err
	}
	if n := at.Lost(); n > 0 {
		fmt.Fprintf(os.Stderr, "bandsox: %d bytes before offset %d are no longer kept\n", n, at.Start())
	}
	if local != nil && o.Stdin != nil {
		_ = at.Resize(local.size()) // the latest who looks decides, as in docker
	}
	if !v.onlooker {
		v.a.interrupts.passTo(at.Signal)
		defer v.a.interrupts.passTo(nil)
	}
	ended := make(chan error, 1)
	go func() { ended <- at.Wait(ctx) }()
	select {
	case err = <-ended:
	case <-left:
		err = at.Detach()
		fmt.Fprint(os.Stderr, "\r\n")
	}
	if code, ok := v.a.interrupts.ended(err); ok {
		return code
	}
	return err
}

// detachKeys passes on what is typed until Ctrl-P Ctrl-Q. A Ctrl-P is held back
// until it's known what follows it.
type detachKeys struct {
	r    io.Reader
	left chan struct{} // closed at Ctrl-P Ctrl-Q
	held bool
	gone bool
	rest []byte
}

const ctrlP, ctrlQ = 0x10, 0x11

func (d *detachKeys) Read(b []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.gone { // what was typed before is on its way
			close(d.left)
			select {} // the end of our typing is not the end of its input
		}
		typed := make([]byte, max(1, min(len(b), 4096)))
		n, err := d.r.Read(typed)
		for _, c := range typed[:n] {
			if d.gone = d.held && c == ctrlQ; d.gone {
				err = nil
				break
			}
			if d.held {
				d.rest = append(d.rest, ctrlP)
			}
			if d.held = c == ctrlP; !d.held {
				d.rest = append(d.rest, c)
			}
		}
		if err != nil && len(d.rest) == 0 {
			return 0, err
		}
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// findShell becomes the first shell that is there.
const findShell = `for s in "$SHELL" /bin/bash /usr/bin/bash /bin/zsh /bin/ash; do
	[ -x "$s" ] && exec "$s" -l
done
exec /bin/sh -l`

func newTerminal(a *app) *cobra.Command {
	var program programFlags
	cmd := &cobra.Command{
		Use:   "terminal SANDBOX",
		Short: "Open a shell on a terminal in a sandbox",
		Long: `Open a shell on a terminal in a sandbox: $SHELL of the sandbox, else bash, zsh,
ash or sh, the first that is there. Leave it as you leave a shell.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			program.interactive, program.tty = true, true
			j, err := a.newJob(program)
			if err != nil {
				return err
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				defer a.interrupts.onExit(j.tty.restore)()
				a.interrupts.leaveAtOnce() // Ctrl-C is typed: a signal is for us, and a shell heeds none
				c := sb.Shell(findShell)
				j.prepare(c)
				return j.finish(bandsox.Info{}, c.Run(cmd.Context()))
			})
		},
	}
	cmd.Flags().StringVarP(&program.workdir, "workdir", "w", "", "directory to start in (default the image's)")
	cmd.Flags().StringVarP(&program.user, "user", "u", "", "run it as NAME, UID, NAME:GROUP or UID:GID (default the image's)")
	return cmd
}

// detached starts cmd, leaves it running and prints how to find it.
func (a *app) detached(ctx context.Context, p programFlags, cmd *client.Cmd) error {
	a.bars.finish()
	cmd.Dir, cmd.User, cmd.Timeout = p.workdir, p.user, time.Duration(p.timeout)
	cmd.Detach, cmd.OpenStdin = true, p.interactive
	if p.tty {
		cmd.TTY = &bandsox.Size{Cols: 80, Rows: 24}
	}
	if err := cmd.Start(ctx); err != nil {
		return err
	}
	if p.json {
		return writeJSON(os.Stdout, map[string]string{"process": cmd.ProcessID()})
	}
	fmt.Println(cmd.ProcessID())
	return nil
}
