package guest

import (
	"path/filepath"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// find sends the Stat of what r asks for.
func (s *service) find(st *wire.Stream, r *wire.FindRequest) (int64, error) {
	out := newRecorder(st)
	count := int64(0)
	err := s.each(r, st.Done(), out, nil, func(n *node) error {
		count++
		return out.add(&wire.Record{Stat: n.stat()})
	})
	if err == nil {
		err = out.flush()
	}
	return count, err
}

// each calls visit for every file that r asks for, below directories that
// enter doesn't refuse (with an enter, r.Path is followed to a file too). What
// can't be read it tells out.
func (s *service) each(r *wire.FindRequest, stop <-chan struct{}, out *recorder, enter func(rel string) bool, visit func(*node) error) error {
	include, err := patterns(r.Include)
	if err != nil {
		return err
	}
	exclude, err := patterns(r.Exclude)
	if err != nil {
		return err
	}
	skip := func(n *node) bool {
		if n.rel == "." {
			return false
		}
		matched, _ := exclude.match(n.rel, false)
		return matched || r.SkipHidden && !r.Glob && filepath.Base(n.rel)[0] == '.'
	}
	w := walk{
		depth: r.Depth, stop: stop, follow: enter != nil,
		visit: func(n *node) error {
			if skip(n) || r.Glob && n.rel == "." || r.Type != "" && typeOf(n.st.Mode) != r.Type {
				return nil
			}
			rel := n.rel
			if rel == "." { // named by itself, a file is what its name is
				rel = filepath.Base(string(r.Path))
			}
			if matched, _ := include.match(rel, r.Glob); len(include) > 0 && !matched {
				return nil
			}
			return visit(n)
		},
		enter: func(n *node) bool {
			if n.rel == "." {
				return true
			}
			_, alive := include.match(n.rel, r.Glob)
			return !skip(n) && (len(include) == 0 || alive) && (enter == nil || enter(n.rel))
		},
		failed: func(rel string, err error) error {
			return out.fail(rel, filepath.Join("/", string(r.Path), rel), err)
		},
	}
	if err := w.run(s.path(string(r.Path))); err != nil {
		return fail("looking through", string(r.Path), err)
	}
	return nil
}

// fail is fileError for what may have its class already.
func fail(doing, path string, err error) error {
	if _, ok := err.(*wire.Error); ok {
		return err
	}
	return fileError(doing, path, err)
}

// pattern is a glob pattern by its parts: of one part it matches names, of
// more the path below the root. "**" is any number of directories.
type pattern []string

type patternList []pattern

func patterns(list []wire.Text) (patternList, error) {
	var out patternList
	for _, t := range list {
		p := pattern(strings.Split(strings.TrimPrefix(string(t), "/"), "/"))
		for _, part := range p {
			if _, err := filepath.Match(part, ""); err != nil || part == "" {
				return nil, wire.Errorf(wire.Invalid, "reading the pattern %q: want names with *, ?, [a-z] and \\ between slashes", t)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// match reports whether one of l matches rel, and whether one could match
// something below it. With shell, a hidden name needs its dot in the pattern.
func (l patternList) match(rel string, shell bool) (matched, alive bool) {
	var names []string
	for _, p := range l {
		if len(p) == 1 && p[0] != "**" && !shell {
			ok, _ := filepath.Match(p[0], filepath.Base(rel))
			matched, alive = matched || ok, true
			continue
		}
		if names == nil {
			names = strings.Split(rel, "/")
		}
		ok, below := p.match(names, shell)
		matched, alive = matched || ok, alive || below
	}
	return matched, alive
}

// match goes through names with all parts of p that could be next.
func (p pattern) match(names []string, shell bool) (matched, alive bool) {
	at := make([]bool, len(p)+1)
	p.reach(at, 0)
	for _, name := range names {
		next := make([]bool, len(p)+1)
		for i, part := range p {
			switch {
			case !at[i], shell && name[0] == '.' && part[0] != '.':
			case part == "**":
				p.reach(next, i)
			default:
				if ok, _ := filepath.Match(part, name); ok {
					p.reach(next, i+1)
				}
			}
		}
		at = next
	}
	for i := range p {
		alive = alive || at[i]
	}
	return at[len(p)], alive
}

// reach marks part i as one that could be next, and those after it if it may
// match nothing.
func (p pattern) reach(at []bool, i int) {
	at[i] = true
	for i < len(p) && p[i] == "**" {
		i++
		at[i] = true
	}
}
