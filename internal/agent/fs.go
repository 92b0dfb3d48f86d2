package agent

import (
	"context"
	"io"
	"iter"
	"path"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Find yields the Stat of what r asks for, each with its whole path. An error
// that comes with a Stat is of that path alone, and the rest follows; any other is
// the end. Leaving the loop ends the guest's work, too.
func (c *Client) Find(ctx context.Context, r wire.FindRequest) iter.Seq2[wire.Stat, error] {
	return func(yield func(wire.Stat, error) bool) {
		root := clean(r.Path)
		each(ctx, c, wire.Request{Op: wire.OpFind, Find: &r}, func(rec *wire.Record, err error) bool {
			switch {
			case err != nil:
				return yield(wire.Stat{}, err)
			case rec.Failed != nil:
				return yield(wire.Stat{Path: path.Join(root, rec.Failed.Path)}, rec.Failed.Err)
			case rec.Stat == nil || r.Depth == 1 && strings.Contains(rec.Stat.Path, "/"):
				yield(wire.Stat{}, strange("find"))
				return false
			}
			rec.Stat.Path = path.Join(root, rec.Stat.Path)
			return yield(*rec.Stat, nil)
		})
	}
}

// Search yields the lines that r asks for. Errors are as Find's.
func (c *Client) Search(ctx context.Context, r wire.SearchRequest) iter.Seq2[wire.Match, error] {
	return func(yield func(wire.Match, error) bool) {
		root := clean(r.Find.Path)
		each(ctx, c, wire.Request{Op: wire.OpSearch, Search: &r}, func(rec *wire.Record, err error) bool {
			switch {
			case err != nil:
				return yield(wire.Match{}, err)
			case rec.Failed != nil:
				return yield(wire.Match{Path: path.Join(root, rec.Failed.Path)}, rec.Failed.Err)
			case rec.Match == nil:
				yield(wire.Match{}, strange("search"))
				return false
			}
			rec.Match.Path = path.Join(root, rec.Match.Path)
			return yield(*rec.Match, nil)
		})
	}
}

// maxLines bounds the lines that are held in memory at once, by their bytes and
// what each takes besides.
const (
	maxLines = 64 << 20
	lineCost = 48
)

// Lines returns the lines that r asks for, and how many the file has.
func (c *Client) Lines(ctx context.Context, r wire.LinesRequest) ([]wire.Line, int64, error) {
	var lines []wire.Line
	var failed error
	next, size := r.Offset+1, 0
	total := each(ctx, c, wire.Request{Op: wire.OpLines, Lines: &r}, func(rec *wire.Record, err error) bool {
		switch {
		case err != nil:
			failed = err
		case rec.Line == nil || rec.Line.Number != next || r.Limit > 0 && rec.Line.Number-r.Offset > r.Limit:
			failed = strange("lines")
		default:
			next++
			if size += lineCost + len(rec.Line.Text); size > maxLines {
				failed = wire.Errorf(wire.Exhausted, "reading lines of %q: they are more than %d MiB: ask for fewer at a time", r.Path, maxLines>>20)
			}
			lines = append(lines, *rec.Line)
		}
		return failed == nil
	})
	switch {
	case failed != nil:
		return nil, 0, failed
	case total < next-1 && len(lines) > 0:
		return nil, 0, strange("lines")
	}
	return lines, total, nil
}

// Change does one of the operations of wire.ChangeRequest, and returns how
// often, where that means something.
func (c *Client) Change(ctx context.Context, op wire.Op, r wire.ChangeRequest) (int64, error) {
	d, err := call(ctx, c, wire.Request{Op: op, Change: &r}, pickDone)
	if err != nil {
		return 0, err
	}
	return d.Bytes, nil
}

// Watch begins to watch: what happens after it has returned is told by
// Events. ctx is for all of it.
func (c *Client) Watch(ctx context.Context, r wire.WatchRequest) (*Watch, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpWatch, Watch: &r})
	if err != nil {
		return nil, err
	}
	if _, err := expect(ctx, st, "watch", pickStat); err != nil {
		st.Close()
		return nil, err
	}
	w := &Watch{root: clean(r.Path), in: &records{ctx: ctx, st: st, op: "watch"}}
	w.release = context.AfterFunc(ctx, func() { st.Close() })
	return w, nil
}

// Watch is a watch that is on.
type Watch struct {
	root    string
	in      *records
	release func() bool
}

// Next returns the next event. io.EOF: what was watched has gone.
func (w *Watch) Next() (wire.FileEvent, error) {
	rec, err := w.in.next()
	switch {
	case err != nil:
		return wire.FileEvent{}, err
	case rec.Event == nil:
		return wire.FileEvent{}, strange("watch")
	}
	e := *rec.Event
	e.Path = path.Join(w.root, e.Path)
	if e.From != "" {
		e.From = path.Join(w.root, e.From)
	}
	return e, nil
}

// Close ends the watch.
func (w *Watch) Close() error {
	w.release()
	return w.in.st.Close()
}

// clean is a path of the guest's as the guest takes it.
func clean(p wire.Text) string { return path.Join("/", string(p)) }

func strange(op string) error {
	return wire.Errorf(wire.Internal, "waiting for the guest's answer to %s: it sent what was not asked for", op)
}

// each opens a stream of records and calls f with each until it returns false,
// and with the error if one ends it. It returns what Done says.
func each(ctx context.Context, c *Client, r wire.Request, f func(*wire.Record, error) bool) int64 {
	st, err := c.mux.Open(ctx, r)
	if err != nil {
		f(nil, err)
		return 0
	}
	defer st.Close()
	st.CloseSend()
	in := records{ctx: ctx, st: st, op: string(r.Op)}
	for {
		rec, err := in.next()
		switch {
		case err == io.EOF:
			return in.done
		case err != nil:
			f(nil, err)
			return 0
		case !f(rec, nil):
			return 0
		}
	}
}

// records unpacks a stream of them.
type records struct {
	ctx  context.Context
	st   *wire.Stream
	op   string
	buf  []byte
	rest []byte // of buf
	done int64
}

// next returns the next record; io.EOF when the guest said that this was all.
// However much the guest sends, no more than one record and what one frame
// carries is held.
func (r *records) next() (*wire.Record, error) {
	for {
		if r.ctx.Err() != nil { // also with records in hand
			return nil, unavailable("waiting for the guest's answer to "+r.op, r.ctx.Err())
		}
		rec, n, err := wire.ParseRecord(r.rest)
		if err != nil {
			return nil, err
		}
		if n <= len(r.rest) {
			r.rest = r.rest[n:]
			return &rec, nil
		}
		kind, b, err := r.st.RecvContext(r.ctx)
		switch {
		case err == io.EOF:
			return nil, broken(r.op)
		case err != nil && r.ctx.Err() != nil: // which may have closed the stream
			return nil, unavailable("waiting for the guest's answer to "+r.op, r.ctx.Err())
		case err != nil:
			return nil, err
		case kind == wire.KindControl:
			return nil, r.end(b)
		}
		r.buf = append(append(r.buf[:0], r.rest...), b...)
		r.rest = r.buf
	}
}

func (r *records) end(b []byte) error {
	msg, err := wire.ParseControl(b)
	switch {
	case err != nil:
		return err
	case msg.Error != nil:
		return msg.Error
	case msg.Done == nil || len(r.rest) > 0:
		return strange(r.op)
	}
	r.done = msg.Done.Bytes
	return io.EOF
}
