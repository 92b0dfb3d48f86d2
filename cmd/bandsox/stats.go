package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

const (
	statsEvery = time.Second
	// statsFirst is what the processors' percentage of a single look is made over.
	statsFirst = 500 * time.Millisecond
)

func newStats(a *app) *cobra.Command {
	var once, asJSON bool
	cmd := &cobra.Command{
		Use: "stats [SANDBOX...]", Short: "Print what sandboxes take of processors, memory and disk",
		Long: `Print what sandboxes take of processors, memory and disk, every second until
Ctrl-C: those named, else all that run or are paused. Of a paused one, and of one
whose guest does not answer, the memory is what its machine takes of the host's.`,
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(m *client.Client) error {
				err := stats(cmd.Context(), m, args, once, asJSON)
				if !once && errors.Is(err, context.Canceled) {
					return nil // Ctrl-C is how one leaves
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&once, "no-stream", false, "print once")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one list a line")
	return cmd
}

func stats(ctx context.Context, m *client.Client, refs []string, once, asJSON bool) error {
	clear := !once && !asJSON && term.IsTerminal(int(os.Stdout.Fd()))
	for look := 0; ; look++ {
		list, err := figures(ctx, m, refs)
		if err != nil {
			return err
		}
		pause := statsEvery
		switch {
		case look == 0: // its percentages are of whole lives
			pause = statsFirst
		case clear:
			fmt.Print("\x1b[H\x1b[J")
			fallthrough
		default:
			if err := printStats(list, asJSON); err != nil || once {
				return err
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// figures asks all of them at once. One of those not named may have ended
// meanwhile.
func figures(ctx context.Context, m *client.Client, refs []string) ([]bandsox.Stats, error) {
	named := len(refs) > 0
	if !named {
		infos, err := m.List(ctx, bandsox.ListOptions{States: []bandsox.State{bandsox.StateRunning, bandsox.StatePaused}})
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			refs = append(refs, i.ID)
		}
	}
	all, errs := make([]bandsox.Stats, len(refs)), make([]error, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		wg.Go(func() {
			var sb *client.Sandbox
			if sb, errs[i] = m.Get(ctx, ref); errs[i] == nil {
				all[i], errs[i] = sb.Stats(ctx)
			}
		})
	}
	wg.Wait()
	list := []bandsox.Stats{}
	for i, err := range errs {
		if err == nil {
			list = append(list, all[i])
		} else if named || ctx.Err() != nil {
			return nil, err
		}
	}
	return list, nil
}

func printStats(list []bandsox.Stats, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(list)
	}
	t := newTable("ID", "NAME", "STATUS", "CPU", "MEM", "LIMIT", "DISK", "SIZE", "PROCESSES")
	for _, s := range list {
		disk, processes := bytesText(s.DiskUsed), fmt.Sprint(s.Processes)
		if !s.Guest {
			disk, processes = bytesText(s.DiskHost), "-"
		}
		t.row(s.ID, s.Name, string(s.Status), fmt.Sprintf("%.1f%%", s.CPUPercent),
			bytesText(s.MemUsed), bytesText(s.MemLimit), disk, bytesText(s.DiskTotal), processes)
	}
	return t.print(os.Stdout)
}
