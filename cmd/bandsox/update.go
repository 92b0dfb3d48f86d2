package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newUpdate(a *app) *cobra.Command {
	var name, idleAction string
	var metadata, labels, env []string
	var replace, asJSON bool
	var ttl, idle duration
	var disk sizeMiB
	cmd := &cobra.Command{
		Use: "update [flags] SANDBOX", Short: "Change a sandbox's name, metadata, labels, environment, times and disk size",
		Long: `Change a sandbox's name, metadata, labels, environment, times and disk size.

Metadata, labels and variables are merged into what is there; KEY- takes one
away. A JSON object is merged key by key, and its nulls take keys away.
Variables are those of programs that are started from now on. A time to live
counts from now; 0 ends it. A disk grows while it is used, and can't shrink.`,
		Example: `  bandsox update --ttl 1h --label team=red box
  bandsox update --metadata '{"owner": {"name": "ann"}}' --metadata old- box`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := cmd.Flags().Changed
			u := bandsox.Update{ReplaceMetadata: replace}
			if changed("name") {
				u.Name = &name
			}
			if changed("ttl") {
				u.TTL = (*time.Duration)(&ttl)
			}
			if changed("idle-timeout") {
				u.IdleTimeout = (*time.Duration)(&idle)
			}
			if changed("idle-action") {
				u.IdleAction = (*bandsox.IdleAction)(&idleAction)
			}
			if size := int(disk); changed("disk-size") {
				u.DiskSizeMiB = &size
			}
			var err error
			if changed("metadata") {
				if u.Metadata, err = parseMetadata(metadata); err != nil {
					return err
				}
			}
			if u.Labels, err = pairs("--label", labels); err != nil {
				return err
			}
			if u.Env, err = pairs("--env", env); err != nil {
				return err
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				if err := sb.Update(cmd.Context(), u); err != nil {
					return err
				}
				if asJSON {
					return writeInfo(cmd.Context(), sb)
				}
				fmt.Printf("VM %s updated.\n", args[0])
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "another name; empty takes it away")
	f.StringArrayVar(&metadata, "metadata", nil, "KEY=VALUE, KEY- or a JSON object; repeatable")
	f.BoolVar(&replace, "replace-metadata", false, "put --metadata in the place of what is there")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE or KEY-; repeatable")
	f.StringArrayVarP(&env, "env", "e", nil, "KEY=VALUE or KEY-; repeatable")
	f.Var(&disk, "disk-size", "grow its disk to this, in MiB or with a unit")
	f.Var(&ttl, "ttl", "delete it after this long, from now; 0: never")
	f.Var(&idle, "idle-timeout", "do --idle-action when nothing used it for this long; 0: never")
	f.StringVar(&idleAction, "idle-action", "", "pause (its next use resumes it), stop or delete")
	jsonFlag(cmd, &asJSON, "print the sandbox as bandsox inspect does")
	return cmd
}

func pairs(flag string, list []string) (map[string]*string, error) {
	m := map[string]*string{}
	for _, arg := range list {
		k, v, err := pair(flag, arg)
		if err != nil {
			return nil, err
		}
		m[k] = v
	}
	return m, nil
}

func newRename(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "rename SANDBOX NAME", Short: "Give a sandbox another name", Args: cobra.ExactArgs(2),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				if err := sb.Update(cmd.Context(), bandsox.Update{Name: &args[1]}); err != nil {
					return err
				}
				return outcome{Name: args[1], ID: sb.ID(), Done: "renamed"}.say(asJSON, fmt.Sprintf("VM %s renamed to %s.", args[0], args[1]))
			})
		},
	}
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func newWait(a *app) *cobra.Command {
	var state string
	var timeout duration
	cmd := &cobra.Command{
		Use: "wait SANDBOX", Short: "Wait until a sandbox is in a state", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout))
				defer cancel()
			}
			return a.withSandbox(ctx, args[0], func(sb *client.Sandbox) error {
				return sb.Wait(ctx, bandsox.State(state))
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", string(bandsox.StateRunning), "creating, running, paused, stopped, failed or deleted")
	cmd.Flags().Var(&timeout, "timeout", "give up after this long")
	return cmd
}

func newRestart(a *app) *cobra.Command {
	grace := bandsox.DefaultGrace
	cmd := a.verb("restart SANDBOX...", "Stop a sandbox, if it runs, and boot it again", "restarted",
		func(sb *client.Sandbox, ctx context.Context) error { return sb.Restart(ctx, grace) })
	cmd.Flags().DurationVar(&grace, "grace", bandsox.DefaultGrace, "time between SIGTERM and SIGKILL")
	return cmd
}
