package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newUsage(a *app) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use: "df", Short: "Print what images, sandboxes and the rest take of the disk", Args: cobra.NoArgs,
		Long: `Print what images, sandboxes and the rest take of the disk. SIZE is what their
files hold, ON DISK what these take, for they have holes. RECLAIMABLE is what
removing images that no sandbox is made from and sandboxes that don't run would
free: bandsox image prune -a, bandsox rm.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				u, err := m.Usage(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(os.Stdout, u)
				}
				if err := printUsage(u); err != nil || !all {
					return err
				}
				images, err := m.Images(cmd.Context())
				if err != nil {
					return err
				}
				return printEach(images, u.Each)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "each image and each sandbox too")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func printUsage(u bandsox.DiskUsage) error {
	t := newTable("TYPE", "COUNT", "ACTIVE", "SIZE", "ON DISK", "RECLAIMABLE")
	for _, r := range []struct {
		name string
		bandsox.Space
	}{{"Images", u.Images}, {"Sandboxes", u.Sandboxes}, {"Snapshots", u.Snapshots}, {"Templates", u.Templates}, {"Kernels", u.Kernels}} {
		t.row(r.name, fmt.Sprint(r.Count), fmt.Sprint(r.Active), bytesText(r.Bytes), bytesText(r.AllocatedBytes), bytesText(r.ReclaimableBytes))
	}
	t.row("Other", "", "", bytesText(u.Other.Bytes), bytesText(u.Other.AllocatedBytes), "")
	t.row("Total", "", "", bytesText(u.Total.Bytes), bytesText(u.Total.AllocatedBytes), bytesText(u.Total.ReclaimableBytes))
	if err := t.print(os.Stdout); err != nil {
		return err
	}
	_, err := fmt.Printf("\n%s free\n", bytesText(u.FreeBytes))
	return err
}

func printEach(images []bandsox.Image, sandboxes []bandsox.SandboxUsage) error {
	fmt.Println()
	t := newTable("IMAGE", "DIGEST", "SIZE", "ON DISK", "SANDBOXES")
	for _, i := range images {
		name := "-"
		if len(i.Refs) > 0 {
			name = few(i.Refs)
		}
		t.row(name, shortDigest(i.Digest), bytesText(i.BaseBytes), bytesText(i.AllocatedBytes), fmt.Sprint(len(i.UsedBy)))
	}
	if err := t.print(os.Stdout); err != nil {
		return err
	}
	fmt.Println()
	t = newTable("ID", "NAME", "STATUS", "SIZE", "ON DISK")
	for _, s := range sandboxes {
		t.row(s.ID, s.Name, string(s.Status), bytesText(s.Bytes), bytesText(s.AllocatedBytes))
	}
	return t.print(os.Stdout)
}
