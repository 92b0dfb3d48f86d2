package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// row is one comparison: ours, a peer's, and one divided by the other.
type row struct {
	What  string  `json:"what"`
	Unit  string  `json:"unit"`
	Ours  float64 `json:"ours"`
	Peer  string  `json:"peer,omitempty"`
	Their float64 `json:"theirs,omitempty"`
	Ratio float64 `json:"ratio,omitempty"` // ours ÷ theirs
	Bar   string  `json:"bar,omitempty"`   // what the ratio or the figure is to be; shown, not enforced
	Runs  int     `json:"runs,omitempty"`
	Note  string  `json:"note,omitempty"`
}

type report struct {
	Time  time.Time `json:"time"`
	Host  string    `json:"host"`
	Rows  []row     `json:"rows"`
	Notes []string  `json:"notes,omitempty"` // what was not measured, and why
}

func (r *report) add(rows ...row) {
	for _, x := range rows {
		if x.Their != 0 {
			x.Ratio = math.Round(x.Ours/x.Their*1000) / 1000
		}
		r.Rows = append(r.Rows, x)
	}
}

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *report) write(w io.Writer) error {
	fmt.Fprintf(w, "\n%s, %s\n\n", r.Host, r.Time.Format(time.DateTime))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tbandsox\tpeer\tpeer's\tratio\tbar\truns")
	for _, x := range r.Rows {
		theirs, ratio := "", ""
		if x.Their != 0 {
			theirs, ratio = figure(x.Their, x.Unit), fmt.Sprintf("%.2f", x.Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", x.What, figure(x.Ours, x.Unit), x.Peer, theirs, ratio, x.Bar, x.Runs)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, x := range r.Rows {
		if x.Note != "" {
			fmt.Fprintf(w, "  %s: %s\n", x.What, x.Note)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  not measured: %s\n", n)
	}
	return nil
}

func (r *report) save(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func figure(v float64, unit string) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

// samples are the times of one thing done again and again.
type samples []time.Duration

// at is the sample below which the share p of all lie.
func (s samples) at(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	t := slices.Sorted(slices.Values(s))
	return t[min(len(t)-1, int(p*float64(len(t))))]
}

func (s samples) median() float64 { return s.at(0.5).Seconds() }

func expNorm(rnd *rand.Rand) float64 { return math.Exp(rnd.NormFloat64() * 1.9) }
