package guest

import (
	"bytes"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// search sends the lines with a text in them. It is all that is done here: a
// regular expression is the host's to apply, to what has the text that it must
// contain. (Package regexp would be a tenth of the agent.)
func (s *service) search(st *wire.Stream, r *wire.SearchRequest) (int64, error) {
	if r.Before < 0 || r.After < 0 || r.Before > wire.MaxAround || r.After > wire.MaxAround || bytes.IndexByte([]byte(r.Text), '\n') >= 0 {
		return 0, wire.Errorf(wire.Invalid, "searching %q: want a text without newlines, and 0 to %d lines around", r.Find.Path, wire.MaxAround)
	}
	if len(r.Text) > wire.MaxLine/4 {
		return 0, wire.Errorf(wire.Invalid, "searching %q: a text of more than %d bytes", r.Find.Path, wire.MaxLine/4)
	}
	g := &grep{r: r, out: newRecorder(st), stop: st.Done(), text: []byte(r.Text)}
	if r.Fold {
		g.text = lower(nil, g.text)
	}
	g.in = newPieces(max(len(g.text)-1, 0))
	r.Find.Type = "file"
	err := s.each(&r.Find, g.stop, g.out,
		func(rel string) bool {
			switch filepath.Join("/", string(r.Find.Path), rel) {
			case "/proc", "/sys", "/dev":
				return false
			}
			return true
		},
		func(n *node) error {
			err := g.file(n)
			switch e, ours := err.(*wire.Error); {
			case ours:
				return e
			case err == nil, gone(err):
				return nil
			}
			return g.out.fail(n.rel, filepath.Join("/", string(r.Find.Path), n.rel), err)
		})
	if err == nil {
		err = g.out.flush()
	}
	return g.found, err
}

// grep searches one file after the other.
type grep struct {
	r      *wire.SearchRequest
	text   []byte
	out    *recorder
	stop   <-chan struct{}
	in     *pieces
	folded []byte
	found  int64

	before  []string      // the last lines
	pending []*wire.Match // that lack lines after them
}

// sniff is how much of a file is looked at to tell whether it is text, as git does.
const sniff = 8000

func (g *grep) file(n *node) error {
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if n.dir != unix.AT_FDCWD {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openat(n.dir, n.name, flags)
	if err != nil {
		if err == unix.ELOOP {
			return nil // another has taken its place
		}
		return err
	}
	f := os.NewFile(uintptr(fd), n.name)
	defer f.Close()
	g.in.reset(f)
	if err := g.in.fill(); err != nil {
		return err
	}
	if bytes.IndexByte(g.in.buf[:min(g.in.end, sniff)], 0) >= 0 {
		return nil
	}
	g.before, g.pending = g.before[:0], g.pending[:0]
	last := int64(0) // the line that matched last
	for {
		if closed(g.stop) {
			return errStopped
		}
		if g.r.Before == 0 && len(g.pending) == 0 {
			if lines := g.in.lines(); len(lines) > 0 && g.index(lines) < 0 {
				g.in.skip(lines)
			}
		}
		b, err := g.in.next()
		if err != nil {
			return err
		}
		if b == nil {
			break
		}
		if err := g.piece(n, b, &last); err != nil {
			return err
		}
	}
	for _, m := range g.pending {
		if err := g.out.add(&wire.Record{Match: m}); err != nil {
			return err
		}
	}
	return nil
}

// piece looks at a piece of a line.
func (g *grep) piece(n *node, b []byte, last *int64) error {
	number, first := g.in.number, g.in.at == 0
	if first && len(g.pending) > 0 {
		if err := g.after(b); err != nil {
			return err
		}
	}
	if i := g.index(b); i >= 0 && *last != number && (first || len(g.text) > 0) {
		*last = number
		g.found++
		m := &wire.Match{Path: n.rel, Line: number, Cut: !g.in.whole || !first || len(b) > wire.MaxLine}
		from := 0
		if m.Cut {
			from = max(0, min(i-wire.MaxLine/4, len(b)-wire.MaxLine))
		}
		m.Start = g.in.at + int64(from)
		m.Text = string(b[from:min(len(b), from+wire.MaxLine)])
		m.Before = append(m.Before, g.before...)
		if g.r.After > 0 {
			g.pending = append(g.pending, m)
		} else if err := g.out.add(&wire.Record{Match: m}); err != nil {
			return err
		}
	}
	if g.r.Before > 0 && first {
		if len(g.before) == g.r.Before {
			g.before = append(g.before[:0], g.before[1:]...)
		}
		g.before = append(g.before, string(b[:min(len(b), wire.MaxContext)]))
	}
	return nil
}

// after gives the matches that wait a line, and sends those that have enough.
func (g *grep) after(b []byte) error {
	line := string(b[:min(len(b), wire.MaxContext)])
	for _, m := range g.pending {
		m.After = append(m.After, line)
	}
	for len(g.pending) > 0 && len(g.pending[0].After) >= g.r.After {
		if err := g.out.add(&wire.Record{Match: g.pending[0]}); err != nil {
			return err
		}
		g.pending = g.pending[1:]
	}
	return nil
}

// index is where in b the text is.
func (g *grep) index(b []byte) int {
	if g.r.Fold {
		g.folded = lower(g.folded[:0], b)
		b = g.folded
	}
	return bytes.Index(b, g.text)
}

// lower appends b to dst with ASCII letters in lower case.
func lower(dst, b []byte) []byte {
	for _, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
