package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// group is a command that others are under. One that isn't there is an error:
// cobra of itself prints the help and is content.
func group(cmd *cobra.Command, under ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(under...)
	return cmd
}

// jsonFlag gives a command the flag --json. What prints one thing prints one
// JSON value with it; what prints things as they come, one a line.
func jsonFlag(cmd *cobra.Command, on *bool, usage string) {
	cmd.Flags().BoolVar(on, "json", false, usage)
}

const (
	oneJSON  = "print JSON"
	manyJSON = "print JSON, an object a line"
)

// writeJSON prints a value for programs and people.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeLine prints a value on one line.
func writeLine(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// outcome is what --json prints of a command that does something to things that
// are named: one a line.
type outcome struct {
	Name    string `json:"name"` // as it was named
	ID      string `json:"id,omitempty"`
	Done    string `json:"done"` // stopped, deleted…
	Already bool   `json:"already,omitempty"`
}

// say prints an outcome, or the words for it.
func (o outcome) say(asJSON bool, words string) error {
	if asJSON {
		return writeLine(o)
	}
	_, err := os.Stdout.WriteString(words + "\n")
	return err
}

// jsonLines makes an object of each line of text that is written to it.
type jsonLines struct{ rest []byte }

func (l *jsonLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		if err := l.say(line); err != nil {
			return 0, err
		}
	}
}

// Close prints what no newline followed.
func (l *jsonLines) Close() error {
	if len(l.rest) == 0 {
		return nil
	}
	return l.say(l.rest)
}

func (l *jsonLines) say(line []byte) error {
	return writeLine(map[string]string{"line": string(bytes.TrimSuffix(line, []byte("\r")))})
}
