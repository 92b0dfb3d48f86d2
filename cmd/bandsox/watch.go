package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newWatch(a *app) *cobra.Command {
	var o bandsox.WatchOptions
	var asJSON bool
	var count int
	cmd := &cobra.Command{
		Use:   "watch SANDBOX:PATH",
		Short: "Print what changes in a directory of a running sandbox, as it happens",
		Long: `Print what changes in a directory of a running sandbox, or of a file, as it
happens: created, modified, removed, renamed or attrib, and the path. It ends
when what is watched is removed. Who reads too slowly gets a line "overflow".`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, path := guestPath(args[0])
			return a.withSandbox(cmd.Context(), ref, func(sb *client.Sandbox) error {
				out := newLister("")
				n := 0
				for e, err := range sb.Watch(cmd.Context(), path, o) {
					switch {
					case err != nil:
						return err
					case asJSON:
						out.json(e)
					default:
						text := fmt.Sprintf("%s %s %s", e.Time.Local().Format(time.TimeOnly), e.Op, e.Path)
						if e.From != "" {
							text += " from " + e.From
						}
						out.whole(text)
					}
					if err := out.Flush(); err != nil {
						return err
					}
					if n++; n == count {
						return nil
					}
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Recursive, "recursive", "r", false, "directories below too, also those that are made later")
	f.IntVar(&count, "count", 0, "end after so many events (default never)")
	f.BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}
