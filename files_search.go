package bandsox

import (
	"context"
	"iter"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// Match is one line that Search found.
type Match = wire.Match

// SearchOptions are what Search looks for, and where.
type SearchOptions struct {
	Path       string // a directory, or one file; empty: /
	Text       string // find lines with this in them
	Regexp     string // or lines that this matches, in the syntax of Go's package regexp
	IgnoreCase bool
	MaxMatches int // stop after so many; 0: don't
	Before     int // so many lines before each match, up to 100
	After      int // and after

	Depth      int      // these five are as in WalkOptions
	SkipHidden bool     //
	Include    []string //
	Exclude    []string //
}

// Search yields the lines of files that hold a text or match a regular
// expression. What isn't text is passed over (it has a zero byte near its
// beginning), and so are /proc, /sys and /dev unless Path is in them. Symbolic
// links are not followed, but Path. A regular expression sees 16 KiB of a longer
// line. Errors are as Walk's.
//
// The guest looks for the text, or for one that any match of the regular
// expression must contain; the rest is done here.
func (sb *Sandbox) Search(ctx context.Context, o SearchOptions) iter.Seq2[Match, error] {
	if o.Path == "" {
		o.Path = "/"
	}
	return func(yield func(Match, error) bool) {
		r, matches, err := o.request()
		if err != nil {
			yield(Match{}, fail("search", quoted(o.Path), err))
			return
		}
		count := 0
		found := sequence(ctx, sb, "search", o.Path, func(c *agent.Client) iter.Seq2[Match, error] { return c.Search(ctx, r) },
			func(m Match) string { return m.Path })
		for m, err := range found {
			if err == nil && !matches(m.Text) {
				continue
			}
			if !yield(m, err) {
				return
			}
			if err == nil {
				if count++; count == o.MaxMatches {
					return
				}
			}
		}
	}
}

// request is what the guest is asked, and what its answers are held to.
func (o SearchOptions) request() (wire.SearchRequest, func(string) bool, error) {
	walk := WalkOptions{Depth: o.Depth, SkipHidden: o.SkipHidden, Include: o.Include, Exclude: o.Exclude}
	r := wire.SearchRequest{Find: walk.request(o.Path), Before: o.Before, After: o.After}
	expr := o.Regexp
	switch {
	case (o.Text == "") == (o.Regexp == ""):
		return r, nil, wire.Errorf(CodeInvalid, "give a text or a regular expression, one of them")
	case o.MaxMatches < 0:
		return r, nil, wire.Errorf(CodeInvalid, "max matches %d: must not be negative", o.MaxMatches)
	case o.Text != "" && !o.IgnoreCase:
		r.Text = wire.Text(o.Text)
		return r, func(line string) bool { return strings.Contains(line, o.Text) }, nil
	case o.Text != "":
		expr = regexp.QuoteMeta(o.Text)
	}
	if o.IgnoreCase {
		expr = "(?i:" + expr + ")"
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return r, nil, wire.Errorf(CodeInvalid, "reading the regular expression %q: %w", o.Regexp, err)
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return r, nil, wire.Errorf(CodeInvalid, "reading the regular expression %q: %w", o.Regexp, err)
	}
	text, fold := required(parsed)
	r.Text, r.Fold = wire.Text(text), fold
	return r, re.MatchString, nil
}

// maxFilter is how long a text the guest is asked to look for.
const maxFilter = 1 << 10

// required is the longest text that is in whatever re matches, in lower case
// if either case would do. It may be empty.
func required(re *syntax.Regexp) (text string, fold bool) {
	switch re.Op {
	case syntax.OpLiteral:
		fold = re.Flags&syntax.FoldCase != 0
		return longest(re.Rune, fold), fold
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if t, f := required(sub); len(t) > len(text) {
				text, fold = t, f
			}
		}
	}
	return text, fold
}

// longest is the longest part of a literal that the guest can look for. With
// case folded that is letters whose other case is an ASCII letter: k and s have
// a third one each, beyond ASCII.
func longest(literal []rune, fold bool) string {
	usable := func(r rune) bool {
		if fold {
			return r < 0x80 && !strings.ContainsRune("kKsS", r)
		}
		return r != '\n' && r != 0xFFFD
	}
	best := ""
	for part := range strings.FieldsFuncSeq(string(literal), func(r rune) bool { return !usable(r) }) {
		if len(part) > len(best) {
			best = part
		}
	}
	if len(best) > maxFilter {
		best = strings.ToValidUTF8(best[:maxFilter], "")
	}
	if fold {
		best = strings.ToLower(best)
	}
	return best
}
