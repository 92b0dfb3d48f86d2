package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	"golang.org/x/sys/unix"
)

// packDir writes the directory dir as a tar stream, in the order of the names,
// and returns the bytes in its files. Equal directories give equal streams.
//
// Symbolic links are written and never followed, whoever swaps a directory for
// one meanwhile: every step goes by a descriptor. It stays on dir's file
// system: what is mounted below it comes out as an empty directory.
func packDir(ctx context.Context, dir string, w io.Writer, lim Limits) (int64, error) {
	root, err := os.Open(dir)
	if err != nil {
		return 0, fileError("reading directory", dir, err)
	}
	out := bufio.NewWriterSize(w, 256<<10)
	p := newPacker(ctx, dir, out, lim)
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		root.Close()
		return 0, fileError("reading directory", dir, err)
	}
	p.device = uint64(st.Dev)
	if err := p.directory(root, "", &st, true); err != nil {
		return 0, err
	}
	if err := p.tw.Close(); err != nil {
		return 0, err
	}
	return p.budget.bytes, out.Flush()
}

type inodeID struct{ dev, ino uint64 }

type packer struct {
	ctx    context.Context
	tw     *tar.Writer
	dir    string
	device uint64
	budget *budget
	first  map[inodeID]string // files with several names, by their first
	buf    []byte
	picks  *picker // what a build is given of the directory; nil: all, for an image
}

func newPacker(ctx context.Context, dir string, w io.Writer, lim Limits) *packer {
	return &packer{
		ctx: ctx, tw: tar.NewWriter(w), dir: dir, budget: &budget{lim: lim},
		first: map[inodeID]string{}, buf: make([]byte, 128<<10),
	}
}

// directory writes d, which it closes, if it is picked, and all in it. name is
// d's path with a slash at its end, or "" for the root.
func (p *packer) directory(d *os.File, name string, st *unix.Stat_t, picked bool) error {
	defer d.Close()
	if picked {
		if err := p.header(tar.TypeDir, name+".", d, ".", st, 0); err != nil {
			return err
		}
	}
	if p.picks == nil && uint64(st.Dev) != p.device {
		return nil
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return p.failed(name, err)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.entry(d, name, n); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(d *os.File, prefix, base string) error {
	name := prefix + base
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return p.failed(name, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return nil // the end of a program that isn't there
	}
	picked, below, err := p.picks.pick(name, kind)
	if err != nil || !picked && !below {
		return err
	}
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := inodeID{uint64(st.Dev), st.Ino}
		if first, ok := p.first[id]; ok {
			return p.write(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first, Format: tar.FormatPAX})
		}
		p.first[id] = name
	}
	switch kind {
	case unix.S_IFDIR, unix.S_IFREG:
		f, err := openAt(d, base, &st)
		if err != nil {
			return p.failed(name, err)
		}
		if kind == unix.S_IFDIR {
			return p.directory(f, name+"/", &st, picked)
		}
		defer f.Close()
		return p.file(f, d, name, base, &st)
	case unix.S_IFLNK:
		return p.header(tar.TypeSymlink, name, d, base, &st, 0)
	case unix.S_IFIFO:
		return p.header(tar.TypeFifo, name, d, base, &st, 0)
	case unix.S_IFCHR:
		return p.header(tar.TypeChar, name, d, base, &st, 0)
	case unix.S_IFBLK:
		return p.header(tar.TypeBlock, name, d, base, &st, 0)
	}
	return nil
}

// openAt opens what st describes, and nothing that took its place.
func openAt(d *os.File, base string, st *unix.Stat_t) (*os.File, error) {
	fd, err := unix.Openat(int(d.Fd()), base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), base)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || now.Ino != st.Ino || now.Mode != st.Mode {
		f.Close()
		return nil, errors.Join(errChanged, err)
	}
	*st = now
	return f, nil
}

var errChanged = errors.New("it changed while it was read")

func (p *packer) file(f, d *os.File, name, base string, st *unix.Stat_t) error {
	if err := p.header(tar.TypeReg, name, d, base, st, st.Size); err != nil {
		return err
	}
	n, err := io.CopyBuffer(p.tw, struct{ io.Reader }{ctxReader{p.ctx, io.LimitReader(f, st.Size)}}, p.buf)
	if err == nil && n < st.Size {
		return p.failed(name, errChanged)
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return p.failed(name, pe.Err)
	}
	return err
}

// header writes the header of the entry base of d.
func (p *packer) header(kind byte, name string, d *os.File, base string, st *unix.Stat_t, size int64) error {
	m := &meta{
		mode: int64(st.Mode & 0o7777), uid: int(st.Uid), gid: int(st.Gid),
		mtime: time.Unix(st.Mtim.Unix()),
	}
	// The magic link is followed, base in it is not.
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), base)
	var err error
	if m.xattrs, err = xattrs(path); err != nil {
		return p.failed(name, err)
	}
	if p.picks != nil {
		m.uid, m.gid = 0, 0
		maps.DeleteFunc(m.xattrs, func(key, _ string) bool { return key != xattrRecord+"security.capability" })
	}
	switch kind {
	case tar.TypeSymlink:
		if m.link, err = os.Readlink(path); err != nil {
			return p.failed(name, err)
		}
	case tar.TypeChar, tar.TypeBlock:
		m.major, m.minor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	case tar.TypeDir:
		name = strings.TrimSuffix(name, ".") // a/b/. is a/b/
		if name == "" {
			name = "/"
		}
	}
	h := m.header(kind, name)
	h.Size = size
	return p.write(h)
}

func (p *packer) write(h *tar.Header) error {
	if err := p.budget.entry(); err != nil {
		return err
	}
	if p.budget.bytes += h.Size; p.budget.lim.MaxBytes > 0 && p.budget.bytes > p.budget.lim.MaxBytes {
		return p.budget.tooBig()
	}
	return p.tw.WriteHeader(h)
}

func (p *packer) failed(name string, err error) error {
	path := p.dir + "/" + strings.TrimSuffix(name, "/")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return wire.Errorf(wire.Denied, "reading %q: %w", path, err).WithHint("run it again as root: sudo bandsox …")
	case errors.Is(err, errChanged), errors.Is(err, fs.ErrNotExist):
		return wire.Errorf(wire.Conflict, "reading %q: it changed while it was read", path).
			WithHint("wait until nothing writes to it, or use a copy")
	}
	return wire.Errorf(wire.Unavailable, "reading %q: %w", path, err)
}

// xattrs reads the attributes that mean something in another system: not the
// labels of this host's security modules, nor the marks of its overlays.
func xattrs(path string) (map[string]string, error) {
	list, err := readXattr(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil {
		return nil, err
	}
	var out map[string]string
	for key := range strings.SplitSeq(string(list), "\x00") {
		switch {
		case key == "" || strings.ContainsRune(key, '='): // not to be written in PAX
			continue
		case strings.HasPrefix(key, "trusted.overlay."):
			continue
		case strings.HasPrefix(key, "security.") && key != "security.capability":
			continue
		}
		v, err := readXattr(func(b []byte) (int, error) { return unix.Lgetxattr(path, key, b) })
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string]string{}
		}
		out[xattrRecord+key] = string(v)
	}
	return out, nil
}

// readXattr asks for the size first, and again if it grew in between. Whatever
// isn't there, or has no attributes at all, is empty.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if n <= 0 || err != nil {
			return nil, ignoreNone(err)
		}
		b := make([]byte, n)
		n, err = get(b)
		if err == unix.ERANGE {
			continue
		}
		if err != nil {
			return nil, ignoreNone(err)
		}
		return b[:n], nil
	}
}

func ignoreNone(err error) error {
	if err == unix.ENODATA || err == unix.ENOTSUP {
		return nil
	}
	return err
}
