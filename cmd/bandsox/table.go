package main

import (
	"io"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// table prints aligned columns and, on a terminal, cuts lines to its width.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range t.rows {
		for i, c := range r {
			if i > 0 {
				_, _ = tw.Write([]byte("\t"))
			}
			_, _ = tw.Write([]byte(printable(c)))
		}
		_, _ = tw.Write([]byte("\n"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	width := 0
	if f, ok := w.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		width, _, _ = term.GetSize(int(f.Fd()))
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, " \n")
		if r := []rune(line); width > 1 && len(r) > width {
			line = string(r[:width-1]) + "…"
		}
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// printable keeps a cell from steering the terminal or the table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
