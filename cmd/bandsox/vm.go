package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// newVM is the reference's group of commands: each is another name of one of
// ours, with the words it has there.
func newVM(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "List, stop, pause, resume, delete, rename and save sandboxes, in the reference's words"}
	one := func(use, short, done string, do func(*client.Sandbox, context.Context) error) *cobra.Command {
		var asJSON bool
		cmd := &cobra.Command{Use: use + " VM", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSandboxes,
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
					if err := do(sb, cmd.Context()); err != nil {
						return err
					}
					return outcome{Name: args[0], ID: sb.ID(), Done: done}.say(asJSON, fmt.Sprintf("VM %s %s.", sb.ID(), done))
				})
			}}
		jsonFlag(cmd, &asJSON, oneJSON)
		return cmd
	}
	return group(cmd, newVMList(a),
		one("stop", "Stop a sandbox", "stopped", func(sb *client.Sandbox, ctx context.Context) error { return sb.Stop(ctx, bandsox.DefaultGrace) }),
		one("pause", "Pause a sandbox", "paused", (*client.Sandbox).Pause),
		one("resume", "Resume a sandbox", "resumed", (*client.Sandbox).Resume),
		one("delete", "Throw a sandbox away, running or not", "deleted", (*client.Sandbox).Delete),
		newVMRename(a), newVMSave(a))
}

func newVMList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "list", Short: "List all sandboxes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				list, err := c.List(cmd.Context(), bandsox.ListOptions{})
				switch {
				case err != nil:
					return err
				case asJSON:
					return writeJSON(os.Stdout, hideEnv(list))
				case a.quiet:
					for _, i := range list {
						fmt.Println(i.ID)
					}
					return nil
				case len(list) == 0:
					fmt.Println("No VMs found.")
					return nil
				}
				t := newTable("Name", "Status", "ID", "Image")
				for _, i := range list {
					t.row(i.Name, string(i.Status), i.ID, i.Image)
				}
				if err := t.print(os.Stdout); err != nil {
					return err
				}
				fmt.Printf("\nTotal: %d VM(s)\n", len(list))
				return nil
			})
		}}
	a.quietIDs(cmd)
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func newVMRename(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "rename VM NAME", Short: "Rename a sandbox", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				if err := sb.Update(cmd.Context(), bandsox.Update{Name: &args[1]}); err != nil {
					return err
				}
				return outcome{Name: args[1], ID: sb.ID(), Done: "renamed"}.say(asJSON, fmt.Sprintf("VM %s renamed to '%s'", sb.ID(), args[1]))
			})
		}}
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}
