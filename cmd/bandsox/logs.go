package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// logsPause is how long logs --follow waits before it looks again.
const logsPause = 300 * time.Millisecond

func newLogs(a *app) *cobra.Command {
	var follow, asJSON bool
	var tail string
	cmd := &cobra.Command{
		Use: "logs SANDBOX", Short: "Print what the guest's kernel and agent have printed", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeSandboxes,
		RunE: func(cmd *cobra.Command, args []string) error {
			lines := -1
			if n, err := strconv.ParseUint(tail, 10, 31); err == nil {
				lines = int(n)
			} else if tail != "all" {
				return usageError("--tail %q: must be a number of lines, or all", tail)
			}
			return a.withSandbox(cmd.Context(), args[0], func(sb *client.Sandbox) error {
				if !asJSON {
					return printLogs(cmd.Context(), sb, os.Stdout, lines, follow)
				}
				out := &jsonLines{}
				return errors.Join(printLogs(cmd.Context(), sb, out, lines, follow), out.Close())
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing until the sandbox has stopped or is deleted")
	cmd.Flags().StringVarP(&tail, "tail", "n", "all", "only so many lines of what is there already")
	jsonFlag(cmd, &asJSON, manyJSON)
	return cmd
}

// lastLines is the end of text: n lines, all if n is negative.
func lastLines(text []byte, n int) []byte {
	if n < 0 {
		return text
	}
	at := len(text)
	for ; n > 0 && at > 0; n-- {
		at = 1 + bytes.LastIndexByte(text[:at-1], '\n')
	}
	return text[at:]
}

// printLogs prints the last lines of the console, all if that is negative, and if follow is set what is added to it.
func printLogs(ctx context.Context, sb *client.Sandbox, w io.Writer, lines int, follow bool) error {
	var seen []byte
	for first := true; ; first = false {
		// Asked before the console is read: what a machine says last is not missed.
		info, stateErr := sb.Info(ctx)
		now, err := console(ctx, sb)
		if err != nil {
			return err
		}
		news := added(seen, now)
		if first {
			news = lastLines(news, lines)
		}
		if _, err := w.Write(news); err != nil {
			return err
		}
		switch {
		case !follow, errors.Is(stateErr, bandsox.ErrNotFound):
			return nil
		case stateErr != nil:
			return stateErr
		case info.Status == bandsox.StateStopped || info.Status == bandsox.StateFailed:
			return nil
		}
		seen = now
		select {
		case <-time.After(logsPause):
		case <-ctx.Done():
			return nil // Ctrl-C is how one leaves
		}
	}
}

func console(ctx context.Context, sb *client.Sandbox) ([]byte, error) {
	r, err := sb.Console(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// added is the part of now that follows seen. A log is bounded: its beginning
// may be gone from now.
func added(seen, now []byte) []byte {
	for len(seen) > 0 {
		if bytes.HasPrefix(now, seen) {
			return now[len(seen):]
		}
		// What is left of seen begins where now does, at a line or near one.
		head := now[:min(len(now), 64)]
		if len(head) == 0 {
			return nil
		}
		i := bytes.Index(seen[1:], head)
		if i < 0 {
			i = len(seen) - 1
		}
		seen = seen[1+i:]
	}
	return now
}
