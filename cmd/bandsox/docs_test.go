package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// TestCommandLineReference keeps docs/cli.md what --help says.
func TestCommandLineReference(t *testing.T) {
	const path = "../../docs/cli.md"
	var b bytes.Buffer
	b.WriteString("# The command line\n\nWritten from `--help` by `go test ./cmd/bandsox -run Reference -update`.\n")
	t.Setenv("BANDSOX_DRIVER", "")
	t.Setenv("BANDSOX_ACCEL", "")
	t.Setenv("BANDSOX_AGENT", "")
	t.Setenv("BANDSOX_NO_TEMPLATES", "")
	root := newRoot(&app{})
	root.InitDefaultHelpCmd()
	describe(&b, root)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("docs/cli.md is not what --help says (run this test with -update):\n%s", diff)
	}
}

func describe(b *bytes.Buffer, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	cmd.InitDefaultHelpFlag()
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "```\n%s\n\n%s```\n", text, trimLines(cmd.UsageString()))
	for _, sub := range cmd.Commands() {
		describe(b, sub)
	}
}

// trimLines takes the blanks off the ends of lines, which diffs can't show.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}
