package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newCreate(a *app) *cobra.Command {
	var create createFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "create [flags] IMAGE",
		Short:             "Make a sandbox and leave it running",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := create.options(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(m *client.Client) error {
				if o.Image, err = a.image(cmd.Context(), m, o.Image); err != nil {
					return err
				}
				sb, err := m.Create(a.shown(cmd.Context()), o)
				if err != nil {
					return err
				}
				a.bars.finish()
				if asJSON {
					return writeInfo(cmd.Context(), sb)
				}
				fmt.Printf("VM created: %s\n", sb.ID())
				return nil
			})
		},
	}
	create.add(cmd.Flags(), bandsox.DefaultMemMiB)
	jsonFlag(cmd, &asJSON, "print the sandbox as bandsox inspect does")
	return cmd
}

// writeInfo prints all there is to know of a sandbox.
func writeInfo(ctx context.Context, sb *client.Sandbox) error {
	info, err := sb.Info(ctx)
	if err != nil {
		return err
	}
	return writeJSON(os.Stdout, info)
}

func newList(a *app) *cobra.Command {
	var all, asJSON bool
	var filters []string
	cmd := &cobra.Command{
		Use: "ps", Aliases: []string{"list"}, Short: "List sandboxes", Args: cobra.NoArgs,
		Long: `List sandboxes. --json gives all there is to know of them, but for the values of
their variables, which bandsox inspect shows.`,
		Example: `  bandsox ps --filter label=team=red
  bandsox ps --filter state=stopped --filter metadata.owner.name=ann`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, names, err := listOptions(filters)
			if err != nil {
				return err
			}
			all = all || len(o.States) > 0
			return a.with(cmd.Context(), func(m *client.Client) error {
				list, err := m.List(cmd.Context(), o)
				if err != nil {
					return err
				}
				shown := []bandsox.Info{}
				for _, i := range list {
					if !named(i.Name, names) {
						continue
					}
					if all || i.Status != bandsox.StateStopped && i.Status != bandsox.StateFailed {
						shown = append(shown, i)
					}
				}
				switch {
				case asJSON:
					return writeJSON(os.Stdout, hideEnv(shown))
				case a.quiet:
					for _, i := range shown {
						fmt.Println(i.ID)
					}
					return nil
				}
				t := newTable("ID", "NAME", "IMAGE", "STATUS", "CPU", "MEM", "CREATED")
				for _, i := range shown {
					t.row(i.ID, i.Name, i.Image, string(i.Status), fmt.Sprint(i.VCPU), bytesText(int64(i.MemMiB)<<20), ago(i.CreatedAt.Time))
				}
				return t.print(os.Stdout)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "stopped and failed ones too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	a.quietIDs(cmd)
	cmd.Flags().BoolVar(&a.quiet, "ids", false, "print ids only, as -q")
	cmd.Flags().Bool("no-trunc", false, "as ids are always whole, does nothing")
	_ = cmd.Flags().MarkHidden("no-trunc")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "state=STATE, name=PART, label=KEY=VALUE or metadata.KEY=VALUE (dots look inside); repeatable")
	return cmd
}

// quietIDs gives a list docker's -q, which the global one yields to: ids only,
// and as there nothing of what else happens.
func (a *app) quietIDs(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print ids only")
}

// hideEnv takes the values of variables, which may be secrets, out of a list:
// bandsox inspect shows them, of one, to who asks for it.
func hideEnv(list []bandsox.Info) []bandsox.Info {
	for _, i := range list {
		for k := range i.Env {
			i.Env[k] = "<redacted>"
		}
	}
	return list
}

// named reports whether a name has one of parts in it.
func named(name string, parts []string) bool {
	return len(parts) == 0 || slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(name, part) })
}

// listOptions reads filters; of several states any will do, and of several parts
// of names, as in docker; of the rest all must fit.
func listOptions(filters []string) (o bandsox.ListOptions, names []string, err error) {
	o = bandsox.ListOptions{Labels: map[string]string{}, Metadata: map[string]any{}}
	for _, f := range filters {
		what, value, _ := strings.Cut(f, "=")
		key, isMeta := strings.CutPrefix(what, "metadata.")
		label, labelValue, isLabel := strings.Cut(value, "=")
		switch {
		case what == "state" && slices.Contains(bandsox.States(), bandsox.State(value)):
			o.States = append(o.States, bandsox.State(value))
		case what == "name" && value != "":
			names = append(names, value)
		case what == "label" && isLabel && label != "":
			o.Labels[label] = labelValue
		case isMeta && key != "" && strings.Contains(f, "="):
			o.Metadata[key] = value
		default:
			return o, nil, usageError("--filter %q: must be state=STATE, name=PART, label=KEY=VALUE or metadata.KEY=VALUE", f)
		}
	}
	return o, names, nil
}

func newInspect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect SANDBOX...", Short: "Print all there is to know of a sandbox as JSON", Args: cobra.MinimumNArgs(1),
		Long: `Print all there is to know of a sandbox as JSON, the values of its variables too,
as docker inspect does: bandsox ps and bandsox vm list don't. Of several it prints
a list of those that there are.`,
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				return inspect(cmd.Context(), m, args)
			})
		},
	}
	jsonFlag(cmd, new(bool), "print JSON, as it does anyway")
	return cmd
}

func inspect(ctx context.Context, m *client.Client, refs []string) error {
	infos := []bandsox.Info{}
	var first error
	for _, ref := range refs {
		sb, err := m.Get(ctx, ref)
		if err == nil {
			var info bandsox.Info
			if info, err = sb.Info(ctx); err == nil {
				infos = append(infos, info)
				continue
			}
		}
		if first == nil {
			first = err
		} else {
			report(os.Stderr, err)
		}
	}
	if len(refs) > 1 {
		return errors.Join(writeJSON(os.Stdout, infos), first)
	}
	if first != nil {
		return first
	}
	return writeJSON(os.Stdout, infos[0])
}

func newStart(a *app) *cobra.Command {
	return a.verb("start SANDBOX...", "Boot a stopped sandbox again, with the disk it has", "started", (*client.Sandbox).Start)
}

func newStop(a *app) *cobra.Command {
	grace := bandsox.DefaultGrace
	cmd := a.verb("stop SANDBOX...", "End a sandbox's programs, write its disk out and power it off", "stopped",
		func(sb *client.Sandbox, ctx context.Context) error {
			err := sb.Stop(ctx, grace)
			if errors.Is(err, bandsox.ErrConflict) {
				if info, ierr := sb.Info(ctx); ierr == nil && info.Status == bandsox.StateStopped {
					return errAlready
				}
			}
			return err
		})
	cmd.Flags().DurationVar(&grace, "grace", bandsox.DefaultGrace, "time between SIGTERM and SIGKILL")
	return cmd
}

func newKill(a *app) *cobra.Command {
	return a.verb("kill SANDBOX...", "End a sandbox's machine at once, as a power cut would", "killed", (*client.Sandbox).Kill)
}

func newPause(a *app) *cobra.Command {
	return a.verb("pause SANDBOX...", "Stop a sandbox's processors", "paused", (*client.Sandbox).Pause)
}

func newResume(a *app) *cobra.Command {
	return a.verb("resume SANDBOX...", "Let a paused sandbox go on, or one that waited for room on the host's disk", "resumed", (*client.Sandbox).Resume)
}

func newRemove(a *app) *cobra.Command {
	var force bool
	cmd := a.verb("rm SANDBOX...", "Throw sandboxes away", "deleted", func(sb *client.Sandbox, ctx context.Context) error {
		info, err := sb.Info(ctx)
		if err != nil {
			return err
		}
		if !force && (info.Status == bandsox.StateRunning || info.Status == bandsox.StatePaused) {
			return &bandsox.Error{Code: bandsox.CodeConflict, Op: "rm", ID: sb.ID(), Err: fmt.Errorf("it is %s", info.Status), Hint: "bandsox rm -f " + sb.ID()}
		}
		return sb.Delete(ctx)
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "running ones too")
	return cmd
}

// errAlready is for a verb that finds done what it was to do: no failure, and said.
var errAlready = errors.New("already so")

// verb is a command that does one thing to each sandbox named.
func (a *app) verb(use, short, done string, do func(*client.Sandbox, context.Context) error) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				var first error
				for _, ref := range args {
					sb, err := m.Get(cmd.Context(), ref)
					if err == nil {
						err = do(sb, cmd.Context())
					}
					switch {
					case err == nil:
						err = outcome{Name: ref, ID: sb.ID(), Done: done}.say(asJSON, fmt.Sprintf("VM %s %s.", ref, done))
					case errors.Is(err, errAlready):
						err = outcome{Name: ref, ID: sb.ID(), Done: done, Already: true}.say(asJSON, fmt.Sprintf("VM %s is already %s.", ref, done))
					}
					switch {
					case err == nil:
					case first == nil:
						first = err
					default:
						report(os.Stderr, err)
					}
				}
				return first
			})
		},
	}
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

func (a *app) withSandbox(ctx context.Context, ref string, f func(*client.Sandbox) error) error {
	return a.with(ctx, func(m *client.Client) error {
		sb, err := m.Get(ctx, ref)
		if err != nil {
			return err
		}
		return f(sb)
	})
}

func newCleanup(a *app) *cobra.Command {
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use: "cleanup", Short: "Reclaim what killed processes left behind", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.keepLeftovers = true
			return a.with(cmd.Context(), func(m *client.Client) error {
				found, err := m.Cleanup(cmd.Context(), dryRun)
				if asJSON {
					if werr := writeJSON(os.Stdout, found); err == nil {
						err = werr
					}
					return err
				}
				word := "reclaimed"
				if dryRun {
					word = "would reclaim"
				}
				for _, l := range found {
					fmt.Printf("%s %s %s: %s\n", word, l.Kind, l.ID, l.Why)
				}
				if len(found) == 0 && err == nil {
					fmt.Println("Nothing to clean up.")
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be reclaimed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// ago is a time as people say it.
func ago(t time.Time) string {
	d := time.Since(t)
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int(d / u.unit); n >= 1 {
			s := ""
			if n > 1 {
				s = "s"
			}
			return fmt.Sprintf("%d %s%s ago", n, u.name, s)
		}
	}
	return "now"
}
