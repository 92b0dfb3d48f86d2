package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newEvents(a *app) *cobra.Command {
	var after int64
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use: "events", Short: "Print what happens to sandboxes", Args: cobra.NoArgs,
		Long: `Print what has happened to sandboxes and what goes on happening, until Ctrl-C:
one line, or with --json one object, an event. Every event has an id; --after
begins with the one after it. The last 10,000 events are kept; where some are
missing that were asked for, a "gap" says how many.`,
		Example: `  bandsox events --follow=false --json
  bandsox events --after -1        only what is yet to come`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if after < bandsox.EventsFromNow {
				return usageError("--after %d: must be an id, 0 for all that are kept, or -1 for those to come", after)
			}
			return a.with(cmd.Context(), func(m *client.Client) error {
				events := m.PastEvents(cmd.Context(), after)
				if follow {
					events = m.Events(cmd.Context(), after)
				}
				for e, err := range events {
					if errors.Is(err, context.Canceled) {
						return nil // Ctrl-C is how one leaves
					}
					if err == nil {
						err = printEvent(e, asJSON)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "begin after the event with this id; -1: with the next")
	cmd.Flags().BoolVarP(&follow, "follow", "f", true, "wait for new events")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func printEvent(e bandsox.Event, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(e)
	}
	who := e.Sandbox
	if e.Name != "" {
		who += " (" + e.Name + ")"
	}
	line := []string{fmt.Sprint(e.ID), e.Time.Local().Format(time.RFC3339), e.Type}
	if who != "" {
		line = append(line, who)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		line = append(line, k+"="+fmt.Sprintf("%q", e.Details[k]))
	}
	_, err := fmt.Println(printable(strings.Join(line, " ")))
	return err
}
