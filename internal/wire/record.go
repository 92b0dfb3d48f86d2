package wire

import (
	"encoding/binary"
	"slices"
	"time"
)

// Record is one of many things that a stream of OpFind, OpSearch, OpLines or
// OpWatch carries as KindData; exactly one field is set. Records are packed: a
// directory of ten thousand names is a few frames, and none goes through JSON
// in a guest whose processor is emulated. Paths are relative to the one asked for,
// which is ".".
type Record struct {
	Stat   *Stat
	Match  *Match
	Line   *Line
	Event  *FileEvent
	Failed *Failure
}

// Failure is what could not be looked at, while the rest could.
type Failure struct {
	Path string
	Err  *Error
}

// maxRecord bounds an encoded record: a match with all lines around it.
const maxRecord = 1 << 20

const (
	tagStat   = 's'
	tagMatch  = 'm'
	tagLine   = 'l'
	tagEvent  = 'v'
	tagFailed = 'x'
)

// Words travel as their place in these lists; a new one goes to the end.
var (
	fileTypes = []string{"file", "dir", "symlink", "char", "block", "fifo", "socket"}
	fileOps   = []string{string(FileCreated), string(FileModified), string(FileRemoved), string(FileRenamed), string(FileAttrib), string(FileOverflow)}
)

// AppendRecord encodes r: four bytes of length, little endian, a tag and its fields.
func AppendRecord(b []byte, r *Record) []byte {
	start := len(b)
	e := encoder{append(b, 0, 0, 0, 0)}
	switch {
	case r.Stat != nil:
		s := r.Stat
		e.tag(tagStat, s.Path)
		for _, n := range [...]uint64{word(fileTypes, s.Type), uint64(s.Size), uint64(s.Mode), uint64(s.UID), uint64(s.GID), s.Inode} {
			e.uint(n)
		}
		e.time(s.Mtime)
		e.string(s.Target)
	case r.Match != nil:
		m := r.Match
		e.tag(tagMatch, m.Path)
		e.uint(uint64(m.Line))
		e.bool(m.Cut)
		e.uint(uint64(m.Start))
		e.string(m.Text)
		e.strings(m.Before)
		e.strings(m.After)
	case r.Line != nil:
		e.tag(tagLine, r.Line.Text)
		e.uint(uint64(r.Line.Number))
		e.bool(r.Line.Cut)
	case r.Event != nil:
		v := r.Event
		e.tag(tagEvent, v.Path)
		e.string(v.From)
		e.uint(word(fileOps, string(v.Op)))
		e.bool(v.Dir)
		e.time(v.Time)
	case r.Failed != nil:
		e.tag(tagFailed, r.Failed.Path)
		e.string(string(r.Failed.Err.Code))
		e.string(cut(r.Failed.Err.Message, maxErrorText))
	}
	binary.LittleEndian.PutUint32(e.b[start:], uint32(len(e.b)-start-4))
	return e.b
}

// encoder is small rather than fast: its methods are not inlined, which would
// be thousands of bytes of every guest's memory.
type encoder struct{ b []byte }

//go:noinline
func (e *encoder) uint(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

//go:noinline
func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) tag(tag byte, first string) {
	e.b = append(e.b, tag)
	e.string(first)
}

//go:noinline
func (e *encoder) bool(b bool) {
	n := uint64(0)
	if b {
		n = 1
	}
	e.uint(n)
}

func (e *encoder) strings(list []string) {
	e.uint(uint64(len(list)))
	for _, s := range list {
		e.string(s)
	}
}

// time keeps what a file system can say, which int64 nanoseconds can't.
//
//go:noinline
func (e *encoder) time(t time.Time) {
	e.b = binary.AppendVarint(e.b, t.Unix())
	e.uint(uint64(t.Nanosecond()))
}

// ParseRecord reads the record at the start of b, n bytes long. If n is more
// than b has, so many are needed. What it returns has been checked, but for
// what only the asker knows: whether it was asked for.
func ParseRecord(b []byte) (r Record, n int, err error) {
	if len(b) < 4 {
		return r, 4, nil
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxRecord {
		return r, 0, Errorf(Internal, "reading a record: it has %d bytes, where 1 to %d may be", size, maxRecord)
	}
	n = 4 + int(size)
	if len(b) < n {
		return r, n, nil
	}
	d := decoder{b: b[5:n]}
	path := ""
	switch tag := b[4]; tag {
	case tagStat:
		s := &Stat{
			Path: d.string(maxPath), Type: d.word(fileTypes), Size: int64(d.uint64()),
			Mode: d.uint32(), UID: d.uint32(), GID: d.uint32(), Inode: d.uint64(), Mtime: d.time(), Target: d.string(maxPath),
		}
		d.bad = d.bad || s.Size < 0 || s.Mode > 0o7777
		r.Stat, path = s, s.Path
	case tagMatch:
		m := &Match{Path: d.string(maxPath), Line: int64(d.uint64()), Cut: d.uint64() != 0, Start: int64(d.uint64())}
		m.Text, m.Before, m.After = d.string(MaxLine), d.strings(), d.strings()
		d.bad = d.bad || m.Line < 1 || m.Start < 0
		r.Match, path = m, m.Path
	case tagLine:
		l := &Line{Text: d.string(MaxLine), Number: int64(d.uint64()), Cut: d.uint64() != 0}
		d.bad = d.bad || l.Number < 1
		r.Line, path = l, "."
	case tagEvent:
		e := &FileEvent{Path: d.string(maxPath), From: d.string(maxPath), Op: FileOp(d.word(fileOps)), Dir: d.uint64() != 0, Time: d.time()}
		d.bad = d.bad || (e.From != "") != (e.Op == FileRenamed) || e.From != "" && e.From != "." && !validPath(e.From)
		r.Event, path = e, e.Path
	case tagFailed:
		f := &Failure{Path: d.string(maxPath)}
		f.Err = (&Error{Code: Code(d.string(maxWord)), Message: d.string(2 * maxErrorText)}).tame()
		r.Failed, path = f, f.Path
	default:
		return Record{}, 0, Errorf(Internal, "reading a record: one of unknown type %d", tag)
	}
	if d.bad || len(d.b) > 0 || path != "." && !validPath(path) {
		return Record{}, 0, Errorf(Internal, "reading a record: one that can't be read")
	}
	return r, n, nil
}

func word(list []string, s string) uint64 { return uint64(max(slices.Index(list, s), 0)) }

func (d *decoder) word(list []string) string {
	i := d.uint64()
	if i >= uint64(len(list)) {
		d.bad = true
		return ""
	}
	return list[i]
}

func (d *decoder) strings() []string {
	n := d.uint64()
	if n > MaxAround {
		d.bad = true
		return nil
	}
	var list []string
	for range n {
		list = append(list, d.string(MaxContext))
	}
	return list
}

func (d *decoder) time() time.Time {
	sec, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return time.Time{}
	}
	d.b = d.b[n:]
	nsec := d.uint64()
	const minSec, maxSec = -62135596800, 253402300799 // the years 1 to 9999: what JSON can carry
	if nsec >= 1e9 {
		d.bad = true
	}
	return time.Unix(min(max(sec, minSec), maxSec), int64(nsec)).UTC()
}
