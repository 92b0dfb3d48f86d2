package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// A tree of files travels as one stream of bytes: records, packed into as few
// frames as they fit in, so that thousands of small files cost a few frames.
// Each record starts with a byte that tells what it is, numbers little endian:
//
//	e  entry    4 length, then the entry: see Entry.append
//	d  data     4 length, then so many bytes of the last entry's content
//	h  hole     8 length: so many zeros of it
//	w  warning  4 length, then text: what could not be sent as it is
//	z  end      of the tree
//
// A file's content follows its entry and is of exactly Size bytes: a file that
// shrinks while it is read is padded, one that grows is cut, and a warning says so.
const (
	tagEntry = 'e'
	tagData  = 'd'
	tagHole  = 'h'
	tagWarn  = 'w'
	tagEnd   = 'z'
)

const (
	maxEntry    = 256 << 10 // an encoded Entry: names and attributes are smaller
	maxPath     = 4095      // as in the kernel
	maxName     = 255
	maxWarning  = 1 << 10
	maxWarnings = 16 // kept; the rest is counted
	maxXattr    = 64 << 10
	maxXattrs   = 128
)

// The types of an Entry.
const (
	EntryFile    = 'f'
	EntryDir     = 'd'
	EntrySymlink = 'l'
	EntryLink    = 'h' // a further name of an earlier file
	EntryChar    = 'c'
	EntryBlock   = 'b'
	EntryFifo    = 'p'
)

// Entry is one file of a tree. Path is relative to the tree's root, which is
// "." itself; it has no empty, "." or ".." parts.
type Entry struct {
	Type         byte
	Path         string
	Link         string // a symlink's target, as it is; an EntryLink's earlier Path
	Mode         uint32 // permission bits with setuid, setgid, sticky
	UID, GID     uint32
	Sec          int64 // of the modification time
	Nsec         uint32
	Size         int64  // of a file's content
	Major, Minor uint32 // of a device
	Xattrs       []Xattr
}

// Xattr is an extended attribute.
type Xattr struct{ Name, Value string }

func (e *Entry) append(b []byte) []byte {
	b = append(b, e.Type)
	for _, n := range [...]uint64{uint64(e.Mode), uint64(e.UID), uint64(e.GID), uint64(e.Sec), uint64(e.Nsec), uint64(e.Size), uint64(e.Major), uint64(e.Minor)} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendString(appendString(b, e.Path), e.Link)
	for _, x := range e.Xattrs {
		b = appendString(appendString(b, x.Name), x.Value)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parseEntry is the reverse of append; what it returns has been checked.
func parseEntry(b []byte) (*Entry, error) {
	if len(b) == 0 {
		return nil, Errorf(Internal, "an empty entry")
	}
	d := decoder{b: b[1:]}
	e := &Entry{
		Type: b[0], Mode: d.uint32(), UID: d.uint32(), GID: d.uint32(), Sec: int64(d.uint64()), Nsec: d.uint32(),
		Size: int64(d.uint64()), Major: d.uint32(), Minor: d.uint32(), Path: d.string(maxPath), Link: d.string(maxPath),
	}
	for len(d.b) > 0 && !d.bad {
		e.Xattrs = append(e.Xattrs, Xattr{d.string(maxName), d.string(maxXattr)})
	}
	if d.bad {
		return nil, Errorf(Internal, "an entry that can't be read")
	}
	return e, e.Check()
}

// Check says what is wrong with an entry, whoever made it.
func (e *Entry) Check() error {
	bad := func(what string) error { return Errorf(Invalid, "%s %q", what, cut(e.Path, 200)) }
	switch {
	case !validPath(e.Path) && !(e.Path == "." && e.Type != EntryLink):
		return bad("a tree has no place for the name")
	case strings.IndexByte("fdlhcbp", e.Type) < 0:
		return bad("no such type of file:")
	case e.Mode > 0o7777, e.Nsec >= 1e9, e.Size < 0, e.Size > 0 && e.Type != EntryFile:
		return bad("bad figures for")
	case e.Type == EntryLink && !validPath(e.Link):
		return bad("a hard link out of the tree:")
	case e.Type == EntrySymlink && (e.Link == "" || len(e.Link) > maxPath || strings.IndexByte(e.Link, 0) >= 0):
		return bad("bad target of the symlink")
	case e.Link != "" && e.Type != EntryLink && e.Type != EntrySymlink, len(e.Xattrs) > maxXattrs:
		return bad("too much said of")
	}
	for _, x := range e.Xattrs {
		if x.Name == "" || len(x.Name) > maxName || strings.IndexByte(x.Name, 0) >= 0 || len(x.Value) > maxXattr {
			return bad("bad extended attribute of")
		}
	}
	return nil
}

// validPath is fs.ValidPath for names that need not be UTF-8, without ".".
func validPath(p string) bool {
	if len(p) > maxPath || strings.IndexByte(p, 0) >= 0 {
		return false
	}
	for more := true; more; { // of thousands of small files: no iterator
		var name string
		if name, p, more = strings.Cut(p, "/"); name == "" || name == "." || name == ".." || len(name) > maxName {
			return false
		}
	}
	return true
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint64() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint64()
	d.bad = d.bad || v > 1<<32-1
	return uint32(v)
}

func (d *decoder) string(limit uint64) string {
	n := d.uint64()
	if n > limit || n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// TreeWriter packs a tree into a buffer that flush sends whenever it is full.
type TreeWriter struct {
	buf     []byte
	n       int
	flush   func(n int) error
	left    int64 // of the content of the last entry
	scratch []byte
}

// NewTreeWriter packs into buf; flush sends the first n bytes of it.
func NewTreeWriter(buf []byte, flush func(n int) error) *TreeWriter {
	return &TreeWriter{buf: buf, flush: flush}
}

// Entry begins the next file. If its Size is more than 0, so much content must
// follow, by Room and Wrote, and by Hole.
func (w *TreeWriter) Entry(e *Entry) error {
	if err := e.Check(); err != nil {
		return err
	}
	if w.left > 0 {
		return Errorf(Internal, "packing a tree: %d bytes of content are missing", w.left)
	}
	w.scratch = append(w.scratch[:0], tagEntry, 0, 0, 0, 0)
	w.scratch = e.append(w.scratch)
	n := len(w.scratch) - 5
	if n > maxEntry {
		return Errorf(Invalid, "the attributes of %q are %d bytes, more than %d", cut(e.Path, 200), n, maxEntry)
	}
	binary.LittleEndian.PutUint32(w.scratch[1:], uint32(n))
	w.left = e.Size
	return w.bytes(w.scratch)
}

// Warn tells the other side of what could not be sent as it is.
func (w *TreeWriter) Warn(format string, args ...any) error {
	text := cut(fmt.Sprintf(format, args...), maxWarning)
	b := append(binary.LittleEndian.AppendUint32([]byte{tagWarn}, uint32(len(text))), text...)
	return w.bytes(b)
}

// Hole is n zeros of content.
func (w *TreeWriter) Hole(n int64) error {
	if n == 0 {
		return nil
	}
	if n < 0 || n > w.left {
		return Errorf(Internal, "packing a tree: more content than announced")
	}
	w.left -= n
	return w.bytes(binary.LittleEndian.AppendUint64([]byte{tagHole}, uint64(n)))
}

// minRoom of the buffer must be free, or it is sent first.
const minRoom = 4 << 10

// Room is where content may be put, which Wrote then takes: as much as fits now
// of what is missing.
func (w *TreeWriter) Room() ([]byte, error) {
	if len(w.buf)-w.n < 5+int(min(w.left, minRoom)) {
		if err := w.Flush(); err != nil {
			return nil, err
		}
	}
	room := w.buf[w.n+5:]
	return room[:min(int64(len(room)), w.left)], nil
}

// Wrote takes the first n bytes of Room.
func (w *TreeWriter) Wrote(n int) {
	if n == 0 {
		return
	}
	w.buf[w.n] = tagData
	binary.LittleEndian.PutUint32(w.buf[w.n+1:], uint32(n))
	w.n += 5 + n
	w.left -= int64(n)
}

// Left is how much of the content of the last entry is missing.
func (w *TreeWriter) Left() int64 { return w.left }

// End ends the tree and sends what is left of it.
func (w *TreeWriter) End() error {
	if w.left > 0 {
		return Errorf(Internal, "packing a tree: %d bytes of content are missing", w.left)
	}
	if err := w.bytes([]byte{tagEnd}); err != nil {
		return err
	}
	return w.Flush()
}

func (w *TreeWriter) bytes(b []byte) error {
	for len(b) > 0 {
		if w.n == len(w.buf) {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		n := copy(w.buf[w.n:], b)
		w.n += n
		b = b[n:]
	}
	return nil
}

// Flush sends what is in the buffer.
func (w *TreeWriter) Flush() error {
	n := w.n
	w.n = 0
	if n == 0 {
		return nil
	}
	return w.flush(n)
}

// TreeReader unpacks a tree. Every error but those of its source is the fault
// of who sent it.
type TreeReader struct {
	Warnings []string // the first ones
	Warned   int      // how many there were

	next  func() ([]byte, error)
	b     []byte // of the last piece
	left  int64  // of the content of the last entry
	data  int64  // of it: of the data record that is being read
	ended bool
}

// NewTreeReader unpacks the pieces that next returns, each valid until the
// next call; their bounds mean nothing.
func NewTreeReader(next func() ([]byte, error)) *TreeReader {
	return &TreeReader{next: next}
}

// Next skips what is left of the last file's content and returns the next
// entry, checked. io.EOF: there is none.
func (r *TreeReader) Next() (*Entry, error) {
	for {
		if _, _, err := r.Content(); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	if r.ended {
		return nil, io.EOF
	}
	for {
		tag, err := r.take(1)
		if err != nil {
			return nil, err
		}
		switch tag[0] {
		case tagEntry:
			b, err := r.block(maxEntry)
			if err != nil {
				return nil, err
			}
			e, err := parseEntry(b)
			if err != nil {
				return nil, Errorf(CodeOf(err), "unpacking a tree: %w", err)
			}
			r.left = e.Size
			return e, nil
		case tagWarn:
			if err := r.warning(); err != nil {
				return nil, err
			}
		case tagEnd:
			r.ended = true
			return nil, io.EOF
		default:
			return nil, Errorf(Internal, "unpacking a tree: a record of type %d", tag[0])
		}
	}
}

// Content returns the next piece of the last entry's content: data, valid
// until the next call, or so many zeros. io.EOF: that was all.
func (r *TreeReader) Content() (data []byte, zeros int64, err error) {
	for r.data == 0 {
		if r.left == 0 {
			return nil, 0, io.EOF
		}
		tag, err := r.take(1)
		if err != nil {
			return nil, 0, err
		}
		switch tag[0] {
		case tagData:
			b, err := r.take(4)
			if err != nil {
				return nil, 0, err
			}
			r.data = int64(binary.LittleEndian.Uint32(b))
		case tagHole:
			b, err := r.take(8)
			if err != nil {
				return nil, 0, err
			}
			n := binary.LittleEndian.Uint64(b)
			if n == 0 || n > uint64(r.left) {
				return nil, 0, Errorf(Internal, "unpacking a tree: a hole bigger than its file")
			}
			r.left -= int64(n)
			return nil, int64(n), nil
		case tagWarn:
			if err := r.warning(); err != nil {
				return nil, 0, err
			}
			continue
		default:
			return nil, 0, Errorf(Internal, "unpacking a tree: a record of type %d inside a file", tag[0])
		}
		if r.data == 0 || r.data > r.left {
			return nil, 0, Errorf(Internal, "unpacking a tree: content bigger than its file")
		}
	}
	if len(r.b) == 0 {
		if err := r.fill(); err != nil {
			return nil, 0, err
		}
	}
	n := min(int64(len(r.b)), r.data)
	data, r.b = r.b[:n:n], r.b[n:]
	r.data -= n
	r.left -= n
	return data, 0, nil
}

func (r *TreeReader) warning() error {
	b, err := r.block(maxWarning + 8)
	if err != nil {
		return err
	}
	if r.Warned++; len(r.Warnings) < maxWarnings {
		r.Warnings = append(r.Warnings, strings.Map(printable, strings.ToValidUTF8(string(b), "?")))
	}
	return nil
}

// block is a length and so many bytes.
func (r *TreeReader) block(limit uint32) ([]byte, error) {
	b, err := r.take(4)
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(b)
	if n > limit {
		return nil, Errorf(Internal, "unpacking a tree: a record of %d bytes, more than %d", n, limit)
	}
	return r.take(int(n))
}

// take returns the next n bytes, which may lie in several pieces.
func (r *TreeReader) take(n int) ([]byte, error) {
	if len(r.b) >= n {
		b := r.b[:n]
		r.b = r.b[n:]
		return b, nil
	}
	var whole []byte
	for len(whole) < n {
		if len(r.b) == 0 {
			if err := r.fill(); err != nil {
				return nil, err
			}
		}
		k := min(len(r.b), n-len(whole))
		whole = append(whole, r.b[:k]...)
		r.b = r.b[k:]
	}
	return whole, nil
}

// fill takes the next piece. A stream that ends before the tree does broke.
func (r *TreeReader) fill() error {
	for len(r.b) == 0 {
		b, err := r.next()
		if err == io.EOF {
			return Errorf(Unavailable, "unpacking a tree: it ended in the middle")
		}
		if err != nil {
			return err
		}
		r.b = b
	}
	return nil
}
