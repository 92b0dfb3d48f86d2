package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// maxEntries is what ReadDir returns, as the library's does.
const maxEntries = 1 << 20

// Exists reports whether there is something at path, be it a symbolic link that
// leads nowhere.
func (sb *Sandbox) Exists(ctx context.Context, path string) (bool, error) {
	_, err := sb.Stat(ctx, path)
	var e *bandsox.Error
	if errors.As(err, &e) && e.Code == bandsox.CodeNotFound && e.Op == "stat" {
		return false, nil
	}
	return err == nil, err
}

// ReadDir lists a directory, sorted by name, at most a million entries of it:
// Walk has no such limit. The Path of each is whole.
func (sb *Sandbox) ReadDir(ctx context.Context, dir string) ([]bandsox.Stat, error) {
	var list []bandsox.Stat
	first := true
	for st, err := range sb.Walk(ctx, dir, bandsox.WalkOptions{Depth: 1}) {
		switch {
		case err != nil:
			return nil, err
		case first && st.Type != "dir":
			return nil, failure("list", dir, wire.Errorf(wire.Invalid, "not a directory"))
		case len(list) == maxEntries:
			return nil, failure("list", dir, wire.Errorf(wire.Exhausted, "more than %d entries: use Walk, which yields them one by one", maxEntries))
		case !first:
			list = append(list, st)
		}
		first = false
	}
	return list, nil
}

// Walk goes through root and all below it, as the library's does.
func (sb *Sandbox) Walk(ctx context.Context, root string, o bandsox.WalkOptions) iter.Seq2[bandsox.Stat, error] {
	q := url.Values{"path": {root}, "include": o.Include, "exclude": o.Exclude}
	if o.Depth != 0 {
		q.Set("depth", strconv.Itoa(o.Depth))
	}
	if o.Type != "" {
		q.Set("type", o.Type)
	}
	if o.SkipHidden {
		q.Set("skip_hidden", "true")
	}
	return lines(ctx, "walk", root, func() (*http.Response, error) {
		return sb.c.send(ctx, "walk", root, http.MethodGet, vmPath(sb.id, "find"), q, nil, nil)
	}, func(st *bandsox.Stat, path string) { st.Path = path })
}

// Search yields the lines of files that hold a text or match a regular
// expression, as the library's does.
func (sb *Sandbox) Search(ctx context.Context, o bandsox.SearchOptions) iter.Seq2[bandsox.Match, error] {
	return lines(ctx, "search", o.Path, func() (*http.Response, error) {
		return sb.c.send(ctx, "search", o.Path, http.MethodPost, vmPath(sb.id, "search"), nil, bytes.NewReader(api.JSON(api.NewSearch(o))),
			http.Header{"Content-Type": {"application/json"}})
	}, func(m *bandsox.Match, path string) { m.Path = path })
}

// maxLine is the longest line of an answer that is taken.
const maxLine = 64 << 20

// lines yields the lines of an answer. One that is an error about a path comes
// with a value that name gives the path.
func lines[T any](ctx context.Context, op, about string, ask func() (*http.Response, error), name func(v *T, path string)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		resp, err := ask()
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		scan := bufio.NewScanner(resp.Body)
		scan.Buffer(make([]byte, 0, 64<<10), maxLine)
		for scan.Scan() {
			var bad api.Failed
			var v T
			if err := json.Unmarshal(scan.Bytes(), &bad); err == nil && bad.Error != nil {
				name(&v, string(bad.Path))
				if !yield(v, bodyError(op, about, *bad.Error)) || bad.Path == "" {
					return
				}
				continue
			}
			if err := json.Unmarshal(scan.Bytes(), &v); err != nil {
				yield(zero, failure(op, about, wire.Errorf(wire.Unavailable, "reading the server's answer: %w", err)))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := scan.Err(); err != nil {
			yield(zero, failure(op, about, ctxOr(ctx, wire.Errorf(wire.Unavailable, "the server's answer broke off: %w", err))))
		}
	}
}

// Glob returns the paths that match a pattern, sorted.
func (sb *Sandbox) Glob(ctx context.Context, pattern string) ([]string, error) {
	var list []wire.Text
	err := sb.call(ctx, "glob", http.MethodGet, "glob", url.Values{"pattern": {pattern}}, nil, &list)
	return api.Strings(list), err
}

// Lines returns the lines of a file after the first offset ones, at most limit
// of them (0: all).
func (sb *Sandbox) Lines(ctx context.Context, path string, offset, limit int64) (bandsox.Lines, error) {
	var l bandsox.Lines
	err := sb.call(ctx, "lines", http.MethodGet, "lines", url.Values{"path": {path},
		"offset": {strconv.FormatInt(offset, 10)}, "limit": {strconv.FormatInt(limit, 10)}}, nil, &l)
	return l, err
}

// Watch yields what happens to a file, or in a directory, as it happens. The
// watch is on when Watch returns, and lasts until the loop over it or ctx ends.
func (sb *Sandbox) Watch(ctx context.Context, name string, o bandsox.WatchOptions) iter.Seq2[bandsox.FileEvent, error] {
	none := func(err error) iter.Seq2[bandsox.FileEvent, error] {
		return func(yield func(bandsox.FileEvent, error) bool) { yield(bandsox.FileEvent{}, err) }
	}
	resp, err := sb.c.send(ctx, "watch", name, http.MethodGet, vmPath(sb.id, "watch"),
		url.Values{"path": {name}, "recursive": {strconv.FormatBool(o.Recursive)}}, nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return none(failure("watch", name, err))
	}
	next, stop := iter.Pull2(messages(ctx, resp.Body))
	end := func() { stop(); resp.Body.Close() }
	first, err, ok := next()
	if err == nil && (!ok || first.kind != "watching") {
		err = wire.Errorf(wire.Unavailable, "the server does not watch: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		end()
		return none(failure("watch", name, err))
	}
	release := context.AfterFunc(ctx, func() { resp.Body.Close() }) // also when nobody loops
	return func(yield func(bandsox.FileEvent, error) bool) {
		defer release()
		defer end()
		for {
			m, err, ok := next()
			switch {
			case !ok || m.kind == "end":
				return
			case err != nil:
				yield(bandsox.FileEvent{}, failure("watch", name, err))
				return
			case m.kind == "error":
				var body api.Error
				if json.Unmarshal(m.data, &body) != nil {
					body = api.Error{Code: wire.Internal, Detail: api.Detail{Text: path.Base(name) + ": the watch has failed"}}
				}
				yield(bandsox.FileEvent{}, bodyError("watch", name, body))
				return
			case m.kind != "change":
				continue
			}
			var e bandsox.FileEvent
			if err := json.Unmarshal(m.data, &e); err != nil {
				yield(e, failure("watch", name, wire.Errorf(wire.Unavailable, "reading the server's answer: %w", err)))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
