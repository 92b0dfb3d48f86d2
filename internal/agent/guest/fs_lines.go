package guest

import (
	"bytes"
	"math"
	"os"

	"github.com/bandsox/bandsox/internal/wire"
)

// pieces reads a file line by line. A line that is longer than the buffer
// comes in several pieces, of which each repeats the last few bytes of the one
// before: so that a text is found that lies across.
type pieces struct {
	f          *os.File
	buf        []byte
	start, end int
	eof        bool
	overlap    int

	number int64 // of the line that next returned a piece of; the first is 1
	at     int64 // where in its line that piece begins
	whole  bool  // it is the last of its line
	within bool  // the next one goes on with this line
}

func newPieces(overlap int) *pieces {
	return &pieces{buf: make([]byte, max(chunk, 4*overlap)), overlap: overlap}
}

func (p *pieces) reset(f *os.File) {
	*p = pieces{f: f, buf: p.buf, overlap: p.overlap}
}

// next returns the next piece, valid until the next call; nil: there is none.
func (p *pieces) next() ([]byte, error) {
	if !p.within {
		p.number, p.at = p.number+1, 0
	}
	for {
		b := p.buf[p.start:p.end]
		i := bytes.IndexByte(b, '\n')
		switch {
		case i >= 0:
			p.start += i + 1
			return p.took(b[:i], true), nil
		case p.eof && len(b) == 0 && !p.within:
			p.number--
			return nil, nil
		case p.eof:
			p.start = p.end
			return p.took(b, true), nil
		case len(b) == len(p.buf):
			p.start = p.end - p.overlap
			return p.took(b, false), nil
		}
		if err := p.fill(); err != nil {
			return nil, err
		}
	}
}

// took notes what is said of a piece. Those that don't end a line are all of
// the buffer's length.
func (p *pieces) took(b []byte, whole bool) []byte {
	if p.within {
		p.at += int64(len(p.buf) - p.overlap)
	}
	p.whole, p.within = whole, !whole
	return b
}

// lines are those that are whole in the buffer: to be looked at together.
func (p *pieces) lines() []byte {
	if p.within {
		return nil
	}
	b := p.buf[p.start:p.end]
	return b[:bytes.LastIndexByte(b, '\n')+1]
}

// skip passes over what lines returned, or a part that ends with a line.
func (p *pieces) skip(lines []byte) {
	p.number += int64(bytes.Count(lines, []byte{'\n'}))
	p.start += len(lines)
}

// pass passes over n lines, or as many as the buffer has.
func (p *pieces) pass(n int64) {
	lines := p.lines()
	end := len(lines)
	if n < int64(end) && n < int64(bytes.Count(lines, []byte{'\n'})) {
		for end = 0; n > 0; n-- {
			end += bytes.IndexByte(lines[end:], '\n') + 1
		}
	}
	p.skip(lines[:end])
}

func (p *pieces) fill() error {
	if p.start > 0 {
		p.end = copy(p.buf, p.buf[p.start:p.end])
		p.start = 0
	}
	n, err := readFD(p.f, p.buf[p.end:])
	if err != nil {
		return err
	}
	p.eof = n <= 0
	p.end += max(n, 0)
	return nil
}

// lines sends the lines asked for and returns how many the file has: a last
// one without a newline counts.
func (s *service) lines(st *wire.Stream, r *wire.LinesRequest) (int64, error) {
	if r.Offset < 0 || r.Limit < 0 {
		return 0, wire.Errorf(wire.Invalid, "reading lines of %q: a negative offset or limit", r.Path)
	}
	f, err := openRegular(s.path(string(r.Path)))
	if err != nil {
		return 0, fileError("reading lines of", string(r.Path), err)
	}
	defer f.Close()
	out := newRecorder(st)
	p := newPieces(0)
	p.reset(f)
	over := func(number int64) bool { return r.Limit > 0 && number-r.Offset >= r.Limit }
	for {
		switch {
		case closed(st.Done()):
			return 0, errStopped
		case p.number < r.Offset:
			p.pass(r.Offset - p.number)
		case over(p.number):
			p.pass(math.MaxInt64)
		}
		b, err := p.next()
		if err != nil {
			return 0, fileError("reading lines of", string(r.Path), err)
		}
		if b == nil {
			return p.number, out.flush()
		}
		if p.at > 0 || p.number <= r.Offset || over(p.number-1) {
			continue
		}
		line := wire.Line{Number: p.number, Text: string(b[:min(len(b), wire.MaxLine)])}
		line.Cut = !p.whole || len(b) > wire.MaxLine
		if err := out.add(&wire.Record{Line: &line}); err != nil {
			return 0, err
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
