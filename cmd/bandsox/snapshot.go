package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newSnapshot(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot", Aliases: []string{"snapshots"}, Short: "Keep sandboxes as they are, memory and all, and go on from there"}
	return group(cmd, newSnapshotCreate(a), newSnapshotList(a), newSnapshotInspect(a), newSnapshotRename(a), newSnapshotRestore(a), newSnapshotDelete(a))
}

func newSnapshotCreate(a *app) *cobra.Command {
	var name string
	var metadata []string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "create SANDBOX", Short: "Take a snapshot of a running or paused sandbox", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := parseMetadata(metadata)
			if err != nil {
				return err
			}
			return a.snapshot(cmd.Context(), args[0], bandsox.SnapshotOptions{Name: name, Metadata: m}, asJSON)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "unique among snapshots (default the sandbox's name or id, and a number)")
	cmd.Flags().StringArrayVar(&metadata, "metadata", nil, "KEY=VALUE, or a JSON object, to remember with it; repeatable")
	jsonFlag(cmd, &asJSON, "print the snapshot as bandsox snapshot inspect does")
	return cmd
}

// newVMSave is the reference's word for it.
func newVMSave(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "save VM NAME", Short: "Take a snapshot of a sandbox", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.snapshot(cmd.Context(), args[0], bandsox.SnapshotOptions{Name: args[1]}, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON, "print the snapshot as bandsox snapshot inspect does")
	return cmd
}

// snapshot takes a snapshot and says so.
func (a *app) snapshot(ctx context.Context, ref string, o bandsox.SnapshotOptions, asJSON bool) error {
	return a.withSandbox(ctx, ref, func(sb *client.Sandbox) error {
		s, err := sb.Snapshot(ctx, o)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(os.Stdout, info)
		}
		_, err = fmt.Printf("Snapshot created: %s (name=%s)\n", info.ID, info.Name)
		return err
	})
}

func newSnapshotList(a *app) *cobra.Command {
	var o bandsox.SnapshotListOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List snapshots", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				list, err := m.Snapshots(cmd.Context(), o)
				switch {
				case err != nil:
					return err
				case asJSON:
					for _, i := range list {
						for k := range i.Env {
							i.Env[k] = "<redacted>" // as in bandsox ps
						}
					}
					return writeJSON(os.Stdout, list)
				case len(list) == 0:
					fmt.Println("No snapshots found.")
					return nil
				}
				t := newTable("Name", "ID", "Status", "Image", "Size", "Created")
				for _, i := range list {
					name := i.Name
					if name == "" {
						name = "(" + string(i.Purpose) + ")"
					}
					t.row(name, i.ID, i.Status, i.Image, bytesText(i.Bytes), ago(i.CreatedAt.Time))
				}
				if err := t.print(os.Stdout); err != nil {
					return err
				}
				fmt.Printf("\nTotal: %d snapshot(s)\n", len(list))
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "those that BandSox made by itself too: templates, and what forks share")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func newSnapshotInspect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect SNAPSHOT", Short: "Print all there is to know of a snapshot as JSON", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSnapshot(cmd.Context(), args[0], func(s *client.Snapshot) error {
				info, err := s.Info(cmd.Context())
				if err != nil {
					return err
				}
				return writeJSON(os.Stdout, info)
			})
		},
	}
	jsonFlag(cmd, new(bool), "print JSON, as it does anyway")
	return cmd
}

func newSnapshotRename(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "rename SNAPSHOT NAME", Short: "Give a snapshot another name", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSnapshot(cmd.Context(), args[0], func(s *client.Snapshot) error {
				if err := s.Update(cmd.Context(), bandsox.SnapshotUpdate{Name: &args[1]}); err != nil {
					return err
				}
				return outcome{Name: args[1], ID: s.ID(), Done: "renamed"}.say(asJSON, fmt.Sprintf("Snapshot %s renamed to '%s'", args[0], args[1]))
			})
		},
	}
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func newSnapshotRestore(a *app) *cobra.Command {
	var o bandsox.RestoreOptions
	var env, envFiles, metadata []string
	var networking, asJSON bool
	cmd := &cobra.Command{
		Use: "restore SNAPSHOT", Short: "Make a sandbox that goes on where the snapshot's was", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Env, err = parseEnv(envFiles, env); err != nil {
				return err
			}
			if o.Metadata, err = parseMetadata(metadata); err != nil {
				return err
			}
			return a.withSnapshot(cmd.Context(), args[0], func(s *client.Snapshot) error {
				sb, err := s.Restore(cmd.Context(), o)
				if err != nil {
					return err
				}
				if asJSON {
					return writeInfo(cmd.Context(), sb)
				}
				_, err = fmt.Printf("Snapshot restored to VM: %s\n", sb.ID())
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "name of the sandbox, unique among those that are there")
	f.StringArrayVarP(&env, "env", "e", nil, "KEY=VALUE, or KEY to pass this one on, of programs that are started from now on; repeatable")
	f.StringArrayVar(&envFiles, "env-file", nil, "file of KEY=VALUE lines; repeatable")
	f.StringArrayVar(&metadata, "metadata", nil, "KEY=VALUE, or a JSON object, to remember with the sandbox; repeatable")
	f.BoolVar(&networking, "enable-networking", true, "does nothing yet; for those who are used to it")
	_ = f.MarkHidden("enable-networking")
	jsonFlag(cmd, &asJSON, "print the sandbox as bandsox inspect does")
	return cmd
}

func newSnapshotDelete(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "delete SNAPSHOT...", Aliases: []string{"rm"}, Short: "Throw snapshots away", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				var errs []error
				for _, ref := range args {
					s, err := m.SnapshotOf(cmd.Context(), ref)
					if err == nil {
						err = s.Delete(cmd.Context())
					}
					if err == nil {
						err = outcome{Name: ref, ID: s.ID(), Done: "deleted"}.say(asJSON, fmt.Sprintf("Snapshot %s deleted.", ref))
					}
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		},
	}
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

func newFork(a *app) *cobra.Command {
	var n int
	var o bandsox.ForkOptions
	var metadata []string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "fork SANDBOX", Short: "Make sandboxes that go on where this one is, its programs running in each", Args: cobra.ExactArgs(1),
		Long: `Make sandboxes that go on where this one is, its programs running in each, and
print their ids. It stands still only while what it has written to its memory is
copied. All are made, or none.`,
		Example:           `  bandsox fork -n 8 --name try box`,
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.Metadata, err = parseMetadata(metadata); err != nil {
				return err
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				list, err := sb.Fork(cmd.Context(), n, o)
				if err != nil {
					return err
				}
				for _, child := range list {
					if err := (outcome{Name: args[0], ID: child.ID(), Done: "forked"}).say(asJSON, child.ID()); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.IntVarP(&n, "count", "n", 1, "how many")
	f.StringVar(&o.Name, "name", "", "name of one; of several it is followed by -1, -2 and so on")
	f.StringArrayVar(&metadata, "metadata", nil, "KEY=VALUE, or a JSON object, merged into the sandbox's; repeatable")
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

func (a *app) withSnapshot(ctx context.Context, ref string, f func(*client.Snapshot) error) error {
	return a.with(ctx, func(m *client.Client) error {
		s, err := m.SnapshotOf(ctx, ref)
		if err != nil {
			return err
		}
		return f(s)
	})
}

// completeSnapshots offers the names of snapshots that are there.
func (a *app) completeSnapshots(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && !strings.Contains(cmd.Use, "SNAPSHOT...") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(cmd, func(ctx context.Context, m *client.Client) (words []string) {
		list, _ := m.Snapshots(ctx, bandsox.SnapshotListOptions{})
		for _, i := range list {
			for _, word := range []string{i.Name, i.ID} {
				if strings.HasPrefix(word, typed) {
					words = append(words, word+"\t"+printable(i.Image))
					break
				}
			}
		}
		return words
	})
}
