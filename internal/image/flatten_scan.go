package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Kinds of entries beside tar's type flags, which end below 0x80.
const (
	kindWhiteout = 0x80 // hides the lower layers' entry of this name
	kindOpaque   = 0x81 // hides all that lower layers hold in this directory
	kindSkip     = 0x82 // says nothing about a file
)

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // AUFS's own files, of which only one means something
	whiteoutOpaque = ".wh..wh..opq"

	xattrRecord = "SCHILY.xattr."

	maxName = 255  // of one component, in bytes: Linux's NAME_MAX
	maxPath = 4095 // of a whole path and of a link's target: PATH_MAX less the NUL
)

// entry is what the index keeps of one tar header.
type entry struct {
	name  string // clean and relative; empty: the root
	link  string // hard link's target, clean and relative
	kind  byte
	index int32 // position in its layer
	size  int64
	mtime time.Time
	meta  *meta  // nil for files, which are read again, and for hard links
	lower *inode // hard link: what its target was before this layer
}

// meta is what there is to know of a file but its name and contents.
type meta struct {
	mode         int64
	uid, gid     int
	mtime        time.Time
	link         string // symbolic link's target, verbatim
	major, minor int64
	xattrs       map[string]string // tar records, prefix included
}

// scan indexes one layer and keeps it, if k does.
func scan(ctx context.Context, l Layer, b *budget, k *keeper) (entries []entry, u *unpacked, err error) {
	rc, err := l.Uncompressed()
	if err != nil {
		return nil, nil, err
	}
	defer rc.Close()
	r, u := k.tee(b.reader(ctx, rc))
	entries, err = index(r, b)
	if err != nil {
		u.drop()
	}
	return entries, u, err
}

func index(r io.Reader, b *budget) ([]entry, error) {
	tr := tar.NewReader(r)
	var entries []entry
	for i := int32(0); ; i++ {
		h, err := next(tr)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := b.entry(); err != nil {
			return nil, err
		}
		e, err := entryOf(h)
		if err != nil {
			return nil, err
		}
		if e.kind == kindSkip {
			continue
		}
		e.index = i
		if err := b.hold(&e); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	// What follows the tar's end is padding, and the checksum of whatever
	// the tar is compressed with: only reading on proves it.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return entries, nil
}

// next is tr.Next without its opinion on names, which are ours to judge.
func next(tr *tar.Reader) (*tar.Header, error) {
	h, err := tr.Next()
	if errors.Is(err, tar.ErrInsecurePath) {
		err = nil
	}
	return h, err
}

func entryOf(h *tar.Header) (entry, error) {
	e := entry{kind: kindOf(h), mtime: h.ModTime}
	if e.kind == kindSkip {
		return e, nil
	}
	if e.kind == 0 {
		return e, bad(h, "type %q is not known", h.Typeflag)
	}
	var err error
	if e.name, err = clean(h, h.Name); err != nil {
		return e, err
	}
	dir, base := split(e.name)
	for name := range strings.SplitSeq(e.name, "/") {
		if strings.HasPrefix(name, whiteoutMeta) && (name != base || name != whiteoutOpaque) {
			e.kind = kindSkip
			return e, nil
		}
	}
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return e, bad(h, "an entry below a whiteout")
	}
	if base == whiteoutOpaque {
		e.kind, e.name = kindOpaque, dir
		return e, nil
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return e, bad(h, "a whiteout of nothing")
		}
		e.kind, e.name = kindWhiteout, path.Join(dir, hidden)
		return e, nil
	}
	switch e.kind {
	case tar.TypeLink:
		e.link, err = clean(h, h.Linkname)
	case tar.TypeReg:
		e.size = h.Size
		_, err = metaOf(h)
	default:
		e.meta, err = metaOf(h)
	}
	if err == nil && e.name == "" && e.kind != tar.TypeDir {
		err = bad(h, "the root must be a directory")
	}
	return e, err
}

func kindOf(h *tar.Header) byte {
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		return tar.TypeReg
	case tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return h.Typeflag
	case tar.TypeXGlobalHeader, 'V': // defaults for other headers; a tape's label
		return kindSkip
	}
	return 0
}

// clean makes name relative to the root and proves that Linux can hold it.
// Cleaning it as an absolute name keeps every ".." inside.
func clean(h *tar.Header, name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", bad(h, "a NUL in a name")
	}
	name = path.Clean("/" + name)[1:]
	if len(name) > maxPath {
		return "", bad(h, "a path of %d bytes, more than %d", len(name), maxPath)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return "", bad(h, "a name of %d bytes, more than %d", len(part), maxName)
		}
	}
	return name, nil
}

func metaOf(h *tar.Header) (*meta, error) {
	m := &meta{mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, mtime: h.ModTime}
	// The largest 32-bit id means "none" to the kernel.
	if uint64(h.Uid) >= 1<<32-1 || uint64(h.Gid) >= 1<<32-1 {
		return nil, bad(h, "owner %d:%d is no 32-bit id", h.Uid, h.Gid)
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		m.link = h.Linkname
		if m.link == "" || len(m.link) > maxPath || strings.ContainsRune(m.link, 0) {
			return nil, bad(h, "a link's target must have 1 to %d bytes and no NUL", maxPath)
		}
	case tar.TypeChar, tar.TypeBlock:
		m.major, m.minor = h.Devmajor, h.Devminor
		if uint64(m.major) >= 1<<12 || uint64(m.minor) >= 1<<20 {
			return nil, bad(h, "no such device number: %d:%d", m.major, m.minor)
		}
	}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, xattrRecord) && len(k) > len(xattrRecord) {
			if m.xattrs == nil {
				m.xattrs = make(map[string]string)
			}
			m.xattrs[k] = v
		}
	}
	return m, nil
}

// header renders m. Owners go by number alone: what the names mean is for the
// image's own /etc/passwd to say. PAX, whatever the value: no other format
// keeps nanoseconds.
func (m *meta) header(kind byte, name string) *tar.Header {
	if name == "/" {
		name = "./"
	}
	return &tar.Header{
		Typeflag: kind, Name: name, Linkname: m.link, Mode: m.mode, Uid: m.uid, Gid: m.gid,
		ModTime: m.mtime, Devmajor: m.major, Devminor: m.minor, PAXRecords: m.xattrs, Format: tar.FormatPAX,
	}
}

func bad(h *tar.Header, format string, args ...any) error {
	return badName(h.Name, format, args...)
}

func badName(name, format string, args ...any) error {
	return wire.Errorf(wire.Invalid, "entry "+strings.ReplaceAll(quote(name), "%", "%%")+": "+format, args...)
}

// within says which entry err is about.
func within(name string, err error) error {
	return wire.Errorf(wire.CodeOf(err), "entry %s: %w", quote(name), err)
}

// quote shows a name of a stranger's choice, at a bearable length.
func quote(name string) string {
	const most = 200
	if len(name) > most {
		return strconv.Quote(name[:most]) + "..."
	}
	return strconv.Quote(name)
}
