package agent

import (
	"archive/tar"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const paxXattr = "SCHILY.xattr."

// Tar writes the tree as a tar archive in which its root is called name: "." or
// "" for what is in it alone.
func (t *Tree) Tar(w io.Writer, name string) error {
	tw := tar.NewWriter(w)
	for {
		e, err := t.Next()
		if err != nil && !t.ended {
			return err
		}
		if err != nil {
			if cerr := tw.Close(); cerr != nil {
				return cerr
			}
			return notEOF(err)
		}
		h := header(e)
		h.Name = path.Join(name, e.Path)
		if e.Type == wire.EntryLink {
			h.Linkname = path.Join(name, e.Link)
		}
		if e.Type == wire.EntryDir {
			h.Name += "/"
		}
		if err := tw.WriteHeader(h); err != nil {
			return wire.Errorf(wire.Invalid, "%q has no place in a tar archive: %w", e.Path, err)
		}
		if err := t.copyContent(writerOnly{tw}); err != nil {
			return err
		}
	}
}

// writerOnly hides what else a writer can do.
type writerOnly struct{ io.Writer }

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

var tarTypes = map[byte]byte{
	wire.EntryFile: tar.TypeReg, wire.EntryDir: tar.TypeDir, wire.EntrySymlink: tar.TypeSymlink, wire.EntryLink: tar.TypeLink,
	wire.EntryChar: tar.TypeChar, wire.EntryBlock: tar.TypeBlock, wire.EntryFifo: tar.TypeFifo,
}

func header(e *wire.Entry) *tar.Header {
	h := &tar.Header{
		Typeflag: tarTypes[e.Type], Linkname: e.Link, Size: e.Size, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID),
		ModTime: time.Unix(e.Sec, int64(e.Nsec)), Devmajor: int64(e.Major), Devminor: int64(e.Minor),
	}
	if e.Nsec != 0 {
		h.Format = tar.FormatPAX // the only one that keeps it
	}
	for _, x := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+x.Name] = x.Value
	}
	return h
}

// FromTar packs what a tar archive holds. Names that lead out of the tree are
// refused; a leading "/" or "./" is taken off, as tar does.
func FromTar(r io.Reader, o PackOptions) *Source {
	return &Source{pack: func(w *wire.TreeWriter, once bool) error {
		tr := tar.NewReader(r)
		p := packer{w: w, once: once, own: o.Own, progress: o.Progress}
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return p.finish()
			}
			if err != nil {
				return wire.Errorf(wire.Invalid, "reading the tar archive: %w", err)
			}
			e, err := fromHeader(h)
			if err != nil {
				return err
			}
			if e == nil {
				continue
			}
			if err := p.entry(e, tr); err != nil {
				return err
			}
		}
	}}
}

// fromHeader is header's reverse, or nil for what is no file.
func fromHeader(h *tar.Header) (*wire.Entry, error) {
	e := &wire.Entry{
		Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond()),
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		e.Type, e.Size = wire.EntryFile, h.Size
	case tar.TypeDir:
		e.Type = wire.EntryDir
	case tar.TypeSymlink:
		e.Type, e.Link = wire.EntrySymlink, h.Linkname
	case tar.TypeLink:
		e.Type = wire.EntryLink
	case tar.TypeChar:
		e.Type, e.Major, e.Minor = wire.EntryChar, uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeBlock:
		e.Type, e.Major, e.Minor = wire.EntryBlock, uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Type = wire.EntryFifo
	default:
		return nil, nil
	}
	var err error
	if e.Path, err = inside(h.Name); err != nil {
		return nil, err
	}
	if e.Type == wire.EntryLink {
		if e.Link, err = inside(h.Linkname); err != nil {
			return nil, err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(k, paxXattr); ok {
			e.Xattrs = append(e.Xattrs, wire.Xattr{Name: name, Value: h.PAXRecords[k]})
		}
	}
	return e, nil
}

// inside is a tar archive's name as a tree has it.
func inside(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", wire.Errorf(wire.Invalid, "the tar archive has a name that leads out of it: %q", name)
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}
