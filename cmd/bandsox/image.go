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

func newImage(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Aliases: []string{"images"}, Short: "Manage the images of the local store"}
	return group(cmd, newImagePull(a), newImageList(a), newImageInspect(a), newImageRemove(a), newImagePrune(a), newImageLoad(a))
}

func newImagePull(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "pull IMAGE...", Short: "Bring images into the local store", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				for _, ref := range args {
					img, err := a.pull(cmd.Context(), m, ref)
					if err != nil {
						return err
					}
					a.bars.finish()
					if asJSON {
						err = writeLine(img)
					} else {
						_, err = fmt.Printf("%s %s (%s from %s)\n", ref, img.Digest, bytesText(img.BaseBytes), img.Source)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

// pull brings in an image; one out of an archive that is sent is there then.
func (a *app) pull(ctx context.Context, m *client.Client, ref string) (bandsox.Image, error) {
	name, err := a.image(ctx, m, ref)
	if err != nil {
		return bandsox.Image{}, err
	}
	if strings.HasPrefix(name, "sha256:") && name != ref {
		return m.Image(ctx, name)
	}
	return m.Pull(a.shown(ctx), name)
}

func newImageList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List images, their sizes and who uses them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				list, err := m.Images(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(os.Stdout, list)
				}
				if a.quiet {
					for _, i := range list {
						fmt.Println(i.Digest)
					}
					return nil
				}
				t := newTable("IMAGE", "DIGEST", "SIZE", "ON DISK", "USED BY", "CREATED")
				for _, i := range list {
					name, users := "-", "-"
					if len(i.Refs) > 0 {
						name = few(i.Refs)
					}
					if n := len(i.UsedBy); n > 0 {
						users = fmt.Sprintf("%d: %s", n, few(i.UsedBy))
					}
					t.row(name, shortDigest(i.Digest), bytesText(i.BaseBytes), bytesText(i.AllocatedBytes), users, ago(i.CreatedAt))
				}
				return t.print(os.Stdout)
			})
		},
	}
	a.quietIDs(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// few keeps a table narrow: image inspect has them all.
func few(names []string) string {
	const most = 2
	if len(names) > most {
		return fmt.Sprintf("%s, %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func newImageInspect(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect IMAGE", Short: "Print all there is to know of an image as JSON", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				img, err := m.Image(cmd.Context(), a.name(args[0]))
				if err != nil {
					return err
				}
				return writeJSON(os.Stdout, img)
			})
		},
	}
	jsonFlag(cmd, new(bool), "print JSON, as it does anyway")
	return cmd
}

func newImageRemove(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "rm IMAGE...", Short: "Remove images from the local store", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				for _, ref := range args {
					if err := m.RemoveImage(cmd.Context(), a.name(ref)); err != nil {
						return err
					}
					if err := (outcome{Name: ref, Done: "removed"}).say(asJSON, "Image "+ref+" removed."); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

func newImagePrune(a *app) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove images that have lost their name, unless a sandbox is made from them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				removed, err := m.PruneImages(cmd.Context(), all)
				if asJSON {
					return errors.Join(err, writeJSON(os.Stdout, removed))
				}
				var freed int64
				for _, i := range removed {
					freed += i.AllocatedBytes
					fmt.Printf("%s %s\n", shortDigest(i.Digest), strings.Join(i.Refs, ", "))
				}
				fmt.Printf("Total: %d image(s), %s\n", len(removed), bytesText(freed))
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those with a name too")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func newImageLoad(a *app) *cobra.Command {
	var file, tag string
	var oci, asJSON bool
	cmd := &cobra.Command{
		Use: "load", Short: "Bring the image in an archive, as docker save writes it, into the local store", Args: cobra.NoArgs,
		Example: `  docker save app | bandsox image load`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := os.Stdin
			if file != "" && file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return usageError("-i %s: %w", file, err)
				}
				defer f.Close()
				in = f
			}
			ref := "docker-archive:-"
			if oci {
				ref = "oci-archive:-"
			}
			if tag != "" {
				ref += ":" + tag
			}
			return a.with(cmd.Context(), func(m *client.Client) error {
				img, err := m.Load(a.shown(cmd.Context()), ref, in)
				if err != nil {
					return err
				}
				a.bars.finish()
				if asJSON {
					return writeJSON(os.Stdout, img)
				}
				name := img.Digest
				if len(img.Refs) > 0 {
					name = strings.Join(img.Refs, ", ") + " " + name
				}
				fmt.Printf("%s (%s)\n", name, bytesText(img.BaseBytes))
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "input", "i", "", "the archive (default standard input)")
	f.StringVar(&tag, "tag", "", "which image, where the archive holds several")
	f.BoolVar(&oci, "oci", false, "it is an archive as the OCI has it, as of skopeo's oci-archive:")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func shortDigest(d string) string {
	d = strings.TrimPrefix(d, "sha256:")
	return d[:min(12, len(d))]
}
