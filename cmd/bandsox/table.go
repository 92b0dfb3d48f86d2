package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/bandsox/bandsox"
)

// table prints aligned columns. On a terminal it fits them to its width, the
// widest give way first, and shows states in colours.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

const (
	columnGap = 2
	// narrowest is what a column is left with at least. Ids are never cut: part of
	// one is of no use.
	narrowest = 8
)

func (t *table) print(w io.Writer) error {
	width, colour := 0, false
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		width, _, _ = term.GetSize(int(f.Fd()))
		colour = colours()
	}
	_, err := io.WriteString(w, t.text(width, colour))
	return err
}

// text is the table, at most so wide; 0: as wide as it is.
func (t *table) text(width int, colour bool) string {
	widths := t.widths(width)
	var b strings.Builder
	for n, cells := range t.rows {
		line, at := "", 0
		for i, c := range cells {
			c = cut(printable(c), widths[i])
			if width > 0 { // it may be narrower than all columns together can be
				c = cut(c, max(0, width-at))
			}
			text, wide := c, len([]rune(c))
			if code := stateColours[bandsox.State(c)]; colour && n > 0 && code != "" {
				text = "\x1b[" + code + "m" + c + "\x1b[0m"
			}
			line += text + strings.Repeat(" ", widths[i]-wide+columnGap)
			at += widths[i] + columnGap
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// widths are those of the columns.
func (t *table) widths(limit int) []int {
	widths := make([]int, len(t.rows[0]))
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	for limit > 0 {
		total, widest := -columnGap, -1
		for i, n := range widths {
			total += n + columnGap
			if n > narrowest && t.rows[0][i] != "ID" && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if total <= limit || widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// cut is s, at most so wide.
func cut(s string, width int) string {
	r := []rune(s)
	switch {
	case len(r) <= width:
		return s
	case width < 1:
		return ""
	}
	return string(r[:width-1]) + "…"
}

var stateColours = map[bandsox.State]string{
	bandsox.StateRunning: "32", bandsox.StatePaused: "33", bandsox.StateCreating: "36",
	bandsox.StateStopped: "90", bandsox.StateFailed: "31",
}

// colours says whether a terminal may have them: https://no-color.org
func colours() bool {
	kind := os.Getenv("TERM")
	return os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb"
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
