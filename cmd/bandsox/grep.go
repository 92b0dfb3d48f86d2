package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// grepNone is the exit code of a search that found nothing, as grep has it.
const grepNone = exitCode(1)

func newGrep(a *app) *cobra.Command {
	var o bandsox.SearchOptions
	var number, extended, asJSON, quiet bool
	var around int
	cmd := &cobra.Command{
		Use:   "grep PATTERN SANDBOX:PATH",
		Short: "Find lines in the files of a running sandbox",
		Long: `Find lines in the files of a running sandbox, below a directory or in one file.
PATTERN is text, or with -E a regular expression in Go's syntax. Files that are
not text are passed over, and so are /proc, /sys and /dev. The exit code is 1 if
nothing was found.`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, s string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeSandboxes(cmd, nil, s)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if extended {
				o.Regexp = args[0]
			} else {
				o.Text = args[0]
			}
			o.Before, o.After = max(o.Before, around), max(o.After, around)
			var ref string
			ref, o.Path = guestPath(args[1])
			return a.withSandbox(cmd.Context(), ref, func(sb *client.Sandbox) error {
				out := &matches{lister: newLister(""), number: number, context: o.Before+o.After > 0}
				var first error
				for m, err := range sb.Search(cmd.Context(), o) {
					switch {
					case err != nil:
						if first != nil {
							report(os.Stderr, first)
						}
						first = err
						continue
					case quiet:
					case asJSON:
						out.json(m)
					default:
						out.add(m)
					}
					out.found = true
				}
				out.end()
				if err := out.Flush(); first == nil {
					first = err
				}
				if first == nil && !out.found {
					return grepNone
				}
				return first
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.IgnoreCase, "ignore-case", "i", false, "letters match in either case")
	f.BoolVarP(&number, "line-number", "n", false, "print line numbers")
	f.BoolVarP(&extended, "regexp", "E", false, "PATTERN is a regular expression")
	f.IntVarP(&o.Before, "before", "B", 0, "print so many lines before each match")
	f.IntVarP(&o.After, "after", "A", 0, "print so many lines after each match")
	f.IntVarP(&around, "context", "C", 0, "print so many lines around each match")
	f.IntVarP(&o.MaxMatches, "max", "m", 0, "stop after so many matches (default all)")
	f.StringArrayVar(&o.Include, "include", nil, "only files that match this glob pattern; repeatable")
	f.StringArrayVar(&o.Exclude, "exclude", nil, "neither what matches this nor what is in it; repeatable")
	f.BoolVar(&quiet, "silent", false, "print nothing: the exit code tells")
	f.BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	return cmd
}

// matches prints matches and the lines around them, each once: a match is held
// until the next has come.
type matches struct {
	*lister
	number, context, found bool

	held *bandsox.Match
	path string // of the line that was printed last
	line int64
}

func (p *matches) add(m bandsox.Match) {
	if p.held != nil {
		before := int64(1<<62 - 1)
		if p.held.Path == m.Path {
			before = m.Line
		}
		p.after(before)
	}
	first := m.Line - int64(len(m.Before))
	if p.context && p.path != "" && (p.path != m.Path || first > p.line+1) {
		p.whole("--")
	}
	for i, text := range m.Before {
		if n := first + int64(i); p.path != m.Path || n > p.line {
			p.print(m.Path, n, '-', text)
		}
	}
	p.print(m.Path, m.Line, ':', m.Text)
	p.held = &m
}

// after prints the lines after the held match that come before a line.
func (p *matches) after(before int64) {
	for i, text := range p.held.After {
		if n := p.held.Line + 1 + int64(i); n < before {
			p.print(p.held.Path, n, '-', text)
		}
	}
}

func (p *matches) end() {
	if p.held != nil {
		p.after(1<<62 - 1)
	}
}

func (p *matches) print(path string, line int64, sep byte, text string) {
	p.path, p.line = path, line
	if p.number {
		p.whole(fmt.Sprintf("%s%c%d%c%s", path, sep, line, sep, text))
	} else {
		p.whole(fmt.Sprintf("%s%c%s", path, sep, text))
	}
}
