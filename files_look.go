package bandsox

import (
	"context"
	"errors"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// The paths of these methods are the sandbox's. A relative one is taken from
// its root. A name is bytes: one that is not UTF-8 works, too.

// maxEntries bounds what ReadDir and Glob return, which is in memory at once.
const maxEntries = 1 << 20

// Exists reports whether there is something at path, be it a symbolic link that
// leads nowhere.
func (sb *Sandbox) Exists(ctx context.Context, path string) (bool, error) {
	client, err := sb.reading(ctx)
	if err != nil {
		return false, fail("stat", quoted(path), err)
	}
	_, err = client.Stat(ctx, path)
	if classify(err) == CodeNotFound {
		return false, nil
	}
	return err == nil, fail("stat", quoted(path), err)
}

// ReadDir lists a directory, sorted by name, at most a million entries of it:
// Walk has no such limit. The Path of each is whole.
func (sb *Sandbox) ReadDir(ctx context.Context, dir string) ([]Stat, error) {
	var list []Stat
	root := true
	for st, err := range sb.find(ctx, "list", wire.FindRequest{Path: wire.Text(dir), Depth: 1}) {
		switch {
		case err != nil:
			return nil, err
		case root && st.Type != "dir":
			return nil, invalid("list", quoted(dir), "not a directory")
		case len(list) == maxEntries:
			return nil, tooMany("list", dir)
		case !root:
			list = append(list, st)
		}
		root = false
	}
	if len(list) == 0 && root {
		return nil, fail("list", quoted(dir), wire.Errorf(CodeInternal, "the guest said nothing of it"))
	}
	sortStats(list)
	return list, nil
}

// WalkOptions are what Walk goes through. The zero value is everything.
type WalkOptions struct {
	Depth      int      // 1: only what is in the directory itself; 0: no limit
	SkipHidden bool     // neither names that begin with a dot nor what is in them
	Include    []string // glob patterns: only what one of them matches
	Exclude    []string // glob patterns: neither these nor what is in them
	Type       string   // file, dir, symlink, char, block, fifo or socket: only these
}

// Walk goes through root and all below it, each directory in order of its names
// (in lots of 8,192, if it has more). It follows no symbolic link but root. What
// goes away meanwhile is passed over. An error that comes with a Path is about
// that path only: who goes on gets the rest. Any other is the last.
//
// A pattern without a slash is matched against names, one with slashes against
// the path below root; "**" is any number of directories.
func (sb *Sandbox) Walk(ctx context.Context, root string, o WalkOptions) iter.Seq2[Stat, error] {
	return sb.find(ctx, "walk", o.request(root))
}

func (o WalkOptions) request(root string) wire.FindRequest {
	return wire.FindRequest{
		Path: wire.Text(root), Depth: o.Depth, SkipHidden: o.SkipHidden, Type: o.Type,
		Include: wireTexts(o.Include), Exclude: wireTexts(o.Exclude),
	}
}

// Glob returns the paths that match a pattern, sorted, at most a million: * and ?
// match within a name, [a-z] one character, and ** any number of directories.
// As in a shell, hidden names need their dot in the pattern. No symbolic link is
// followed after the first part that is a pattern. To match nothing is no error.
func (sb *Sandbox) Glob(ctx context.Context, pattern string) ([]string, error) {
	root, rest := cutGlob(pattern)
	if rest == "" {
		found, err := sb.Exists(ctx, root)
		if err != nil || !found {
			return nil, err
		}
		return []string{root}, nil
	}
	r := wire.FindRequest{Path: wire.Text(root), Glob: true, Include: []wire.Text{wire.Text(rest)}}
	if parts := strings.Split(rest, "/"); !strings.Contains("/"+rest+"/", "/**/") {
		r.Depth = len(parts)
	}
	var list []Stat
	for st, err := range sb.find(ctx, "glob", r) {
		switch {
		case err != nil && (st.Path != "" || errors.Is(err, ErrNotFound)):
			continue // as a shell does
		case err != nil:
			return nil, err
		case len(list) == maxEntries:
			return nil, tooMany("glob", pattern)
		}
		list = append(list, Stat{Path: st.Path})
	}
	sortStats(list)
	var paths []string
	for _, st := range list {
		paths = append(paths, st.Path)
	}
	return paths, nil
}

// cutGlob cuts a pattern before its first part that is one.
func cutGlob(pattern string) (root, rest string) {
	parts := strings.Split(strings.TrimPrefix(path.Join("/", pattern), "/"), "/")
	for i, p := range parts {
		if strings.ContainsAny(p, `*?[\`) {
			return "/" + strings.Join(parts[:i], "/"), strings.Join(parts[i:], "/")
		}
	}
	return path.Join("/", pattern), ""
}

// Lines are some of the lines of a file.
type Lines struct {
	Lines []Line `json:"lines"`
	Total int64  `json:"total"` // of the whole file; a last one without a newline counts
}

// Line is one line of a file.
type Line = wire.Line

// Lines returns the lines of a file after the first offset ones, at most limit
// of them (0: all). A line longer than 16 KiB is cut, and says so. More than 64 MiB
// at once are refused.
func (sb *Sandbox) Lines(ctx context.Context, path string, offset, limit int64) (Lines, error) {
	client, err := sb.reading(ctx)
	if err != nil {
		return Lines{}, fail("lines", quoted(path), err)
	}
	lines, total, err := client.Lines(ctx, wire.LinesRequest{Path: wire.Text(path), Offset: offset, Limit: limit})
	if err != nil {
		return Lines{}, fail("lines", quoted(path), err)
	}
	return Lines{Lines: lines, Total: total}, nil
}

// find is Find of the sandbox's agent, with this package's errors.
func (sb *Sandbox) find(ctx context.Context, op string, r wire.FindRequest) iter.Seq2[Stat, error] {
	return sequence(ctx, sb, op, string(r.Path), func(c *agent.Client) iter.Seq2[Stat, error] { return c.Find(ctx, r) },
		func(st Stat) string { return st.Path })
}

// sequence is what the agent yields, once the sandbox runs. An error is of the
// path that pathOf finds beside it, else of the one asked for.
func sequence[T any](ctx context.Context, sb *Sandbox, op, path string, of func(*agent.Client) iter.Seq2[T, error], pathOf func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		client, err := sb.reading(ctx)
		if err != nil {
			var zero T
			yield(zero, fail(op, quoted(path), err))
			return
		}
		for v, err := range of(client) {
			about := path
			if p := pathOf(v); p != "" {
				about = p
			}
			if err != nil {
				err = fail(op, quoted(about), err)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

func sortStats(list []Stat) {
	slices.SortFunc(list, func(a, b Stat) int { return strings.Compare(a.Path, b.Path) })
}

func tooMany(op, path string) error {
	return fail(op, quoted(path), wire.Errorf(CodeExhausted, "more than %d entries: use Walk, which yields them one by one", maxEntries))
}

func wireTexts(list []string) []wire.Text {
	var t []wire.Text
	for _, s := range list {
		t = append(t, wire.Text(s))
	}
	return t
}

// quoted is a path as an error shows it: as it is, unless it could be taken for
// something else, or moves the cursor.
func quoted(path string) string {
	if path == "" || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(path)
	}
	return path
}
