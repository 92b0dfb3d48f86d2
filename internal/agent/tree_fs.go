package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// Source packs a tree for a guest.
type Source struct {
	pack     func(w *wire.TreeWriter, once bool) error
	warnings []string
}

// PackOptions say how a tree is packed.
type PackOptions struct {
	Own      bool                    // keep owners; else all of it is root's
	Progress func(done, total int64) // of content, in bytes; total is 0: not known
}

// warned is what could not be packed as it was, or nil.
func (s *Source) warned() error {
	if len(s.warnings) == 0 {
		return nil
	}
	return wire.Errorf(wire.Conflict, "all was copied, but: %s", strings.Join(s.warnings[:min(len(s.warnings), 16)], "; "))
}

// FromFS packs what is in fsys. Owners, times, hard links and devices are kept
// where fsys tells of them as package os does, symlinks where it has them, and
// extended attributes where its files are of the operating system.
func FromFS(fsys fs.FS, o PackOptions) *Source {
	s := &Source{}
	s.pack = func(w *wire.TreeWriter, once bool) error {
		p := fsPacker{packer: packer{w: w, once: once, own: o.Own, progress: o.Progress}, s: s, fsys: fsys, links: map[inode]string{}}
		root, err := fs.Stat(fsys, ".")
		if err != nil {
			return err
		}
		if !root.IsDir() {
			return wire.Errorf(wire.Invalid, "not a directory")
		}
		if err := p.node(".", root); err != nil {
			return err
		}
		return p.finish()
	}
	return s
}

type fsPacker struct {
	packer
	s     *Source
	fsys  fs.FS
	links map[inode]string
}

type inode struct{ dev, ino uint64 }

func (p *fsPacker) node(name string, fi fs.FileInfo) error {
	e := &wire.Entry{
		Path: name, Mode: permissions(fi.Mode()), Sec: fi.ModTime().Unix(), Nsec: uint32(fi.ModTime().Nanosecond()),
	}
	st, _ := fi.Sys().(*syscall.Stat_t)
	if st != nil {
		e.UID, e.GID = st.Uid, st.Gid
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	switch fi.Mode().Type() {
	case 0:
		return p.file(e, st)
	case fs.ModeDir:
		return p.directory(e)
	case fs.ModeSymlink:
		target, err := fs.ReadLink(p.fsys, name)
		if err != nil {
			return err
		}
		e.Type, e.Link = wire.EntrySymlink, target
	case fs.ModeNamedPipe:
		e.Type = wire.EntryFifo
	case fs.ModeDevice:
		e.Type = wire.EntryBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		e.Type = wire.EntryChar
	default:
		return nil // a socket means nothing without its program
	}
	return p.entry(e, nil)
}

func (p *fsPacker) directory(e *wire.Entry) error {
	f, err := p.fsys.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return wire.Errorf(wire.Invalid, "the directory %q can't be read", e.Path)
	}
	e.Type, e.Xattrs = wire.EntryDir, attributes(f)
	if err := p.entry(e, nil); err != nil {
		return err
	}
	list, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, d := range list {
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err == nil {
			err = p.node(path.Join(e.Path, d.Name()), fi)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *fsPacker) file(e *wire.Entry, st *syscall.Stat_t) error {
	if st != nil && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.links[id]; ok {
			e.Type, e.Link = wire.EntryLink, first
			return p.entry(e, nil)
		}
		p.links[id] = e.Path
	}
	f, err := p.fsys.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	e.Type, e.Size, e.Xattrs = wire.EntryFile, fi.Size(), attributes(f)
	padded := &pad{r: f, left: e.Size}
	if err := p.entry(e, padded); err != nil {
		return err
	}
	if padded.short > 0 {
		p.s.warnings = append(p.s.warnings, fmt.Sprintf("%s: it shrank by %d bytes while it was read, zeros were added", e.Path, padded.short))
	} else if now, err := f.Stat(); err == nil && (now.Size() != fi.Size() || !now.ModTime().Equal(fi.ModTime())) {
		p.s.warnings = append(p.s.warnings, e.Path+": it changed while it was read")
	}
	return nil
}

// pad reads exactly left bytes, with zeros where there are fewer.
type pad struct {
	r     io.Reader
	left  int64
	short int64
}

func (p *pad) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.left)]
	if p.short > 0 {
		clear(b)
		p.left -= int64(len(b))
		return len(b), nil
	}
	n, err := p.r.Read(b)
	p.left -= int64(n)
	if err == io.EOF && p.left > 0 {
		p.short, err = p.left, nil
	}
	return n, err
}

// permissions are a mode's bits as chmod has them.
func permissions(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// attributes are the extended attributes of an open file, if it is one of the
// operating system.
func attributes(f fs.File) []wire.Xattr {
	osFile, ok := f.(interface{ Fd() uintptr })
	if !ok {
		return nil
	}
	fd := int(osFile.Fd())
	n, err := unix.Flistxattr(fd, nil)
	if err != nil || n <= 0 {
		return nil // as almost everywhere: that costs one call and no memory
	}
	list := make([]byte, 64<<10) // the longest that a kernel gives
	if n, err = unix.Flistxattr(fd, list); err != nil {
		return nil
	}
	var all []wire.Xattr
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if n, err := unix.Fgetxattr(fd, name, value); err == nil {
			all = append(all, wire.Xattr{Name: name, Value: string(value[:n])})
		}
	}
	return all
}

// WriteTree has the guest write a tree. The error is the source's, if it
// failed, else the guest's. When the guest or ctx fails first, WriteTree does
// not wait for the source's read that is under way.
func (c *Client) WriteTree(ctx context.Context, r wire.TreeRequest, s *Source) (int64, error) {
	st, err := c.mux.Open(ctx, wire.Request{Op: wire.OpTreeWrite, Tree: &r})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	failed := make(chan error, 1)
	go func() {
		broke := false // the guest's answer tells why
		buf := make([]byte, chunk)
		w := wire.NewTreeWriter(buf, func(n int) error {
			err := st.SendContext(ctx, wire.KindData, buf[:n])
			broke = broke || err != nil
			return err
		})
		err := s.pack(w, false)
		if err == nil {
			err = w.End()
		}
		switch {
		case broke:
		case err != nil:
			failed <- err
			st.Reset(wire.Errorf(wire.Unavailable, "the source of the tree failed"))
		default:
			st.CloseSend()
		}
	}()
	done, err := expect(ctx, st, "copy", pickDone)
	if err != nil {
		select {
		case err = <-failed:
		default:
		}
		return 0, err
	}
	return done.Bytes, s.warned()
}
