package guest

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// linkMemory bounds what is remembered of names of files that have several: the
// copies of more than that are files of their own.
const linkMemory = 1 << 20

// treeSender sends a tree. It walks with directory descriptors and follows no
// symlink, so that what programs do meanwhile can't lead it elsewhere.
type treeSender struct {
	w      *wire.TreeWriter
	links  map[inode]string
	memory int
	total  int64
	list   []byte // of a file's attributes: the names
}

type inode struct{ dev, ino uint64 }

// readTree sends the Stat of a tree's root and then the tree.
func (s *service) readTree(st *wire.Stream, r *wire.TreeRequest) (int64, error) {
	full := s.path(r.Path)
	look, flag := os.Lstat, unix.AT_SYMLINK_NOFOLLOW
	if r.Follow {
		look, flag = os.Stat, 0
	}
	var root unix.Stat_t
	fi, err := look(full)
	if err == nil {
		err = unix.Fstatat(unix.AT_FDCWD, full, &root, flag)
	}
	if err != nil {
		return 0, fileError("copying", r.Path, err)
	}
	stat := statOf(r.Path, full, fi)
	if err := st.SendControl(wire.Control{Stat: &stat}); err != nil {
		return 0, err
	}
	packet := new(wire.Packet)
	t := &treeSender{
		w:     wire.NewTreeWriter(packet.Data(), func(n int) error { return st.SendPacket(wire.KindData, packet, n) }),
		links: map[inode]string{},
		list:  make([]byte, 1<<10),
	}
	if err := t.node(unix.AT_FDCWD, full, ".", &root, r.Follow); err != nil {
		return 0, err
	}
	return t.total, t.w.End()
}

// node sends one file, name in dir, known to the tree as path. Its error is
// the stream's; what is wrong with the file itself is told as a warning.
func (t *treeSender) node(dir int, name, path string, st *unix.Stat_t, follow bool) error {
	e := wire.Entry{Path: path}
	attributes(&e, st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFREG:
		if e.Type = wire.EntryFile; st.Mode&unix.S_IFMT == unix.S_IFDIR {
			e.Type = wire.EntryDir
		}
		fd, err := t.open(dir, name, follow)
		if err == unix.ENOENT {
			return nil // gone meanwhile
		}
		if err != nil {
			return t.w.Warn("%s: %v", path, err)
		}
		defer unix.Close(fd)
		var now unix.Stat_t
		if err := unix.Fstat(fd, &now); err != nil || now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
			return t.w.Warn("%s: it changed while it was read", path)
		}
		attributes(&e, &now)
		if e.Type == wire.EntryFile && t.linked(&e, &now) {
			return t.w.Entry(&e)
		}
		e.Xattrs = xattrs(fd, t.list)
		if e.Type == wire.EntryFile {
			return t.file(fd, &e, &now)
		}
		if err := t.w.Entry(&e); err != nil {
			return err
		}
		if kernelFS(fd) {
			return nil
		}
		return t.children(fd, path)
	case unix.S_IFLNK:
		buf := make([]byte, 4096)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil || n == 0 {
			return t.w.Warn("%s: reading the symlink: %v", path, err)
		}
		e.Type, e.Link = wire.EntrySymlink, string(buf[:n])
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = wire.EntryChar, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = wire.EntryBlock, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFIFO:
		e.Type = wire.EntryFifo
	default:
		return nil // a socket means nothing without its program
	}
	return t.w.Entry(&e)
}

// open opens a file without a mark that it was read: to leave one is a write to
// the file system's journal, a quarter of what a small file costs. Only a
// file's owner and root may do so.
func (t *treeSender) open(dir int, name string, follow bool) (int, error) {
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if follow {
		flags &^= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat(dir, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		return unix.Openat(dir, name, flags, 0)
	}
	return fd, err
}

func attributes(e *wire.Entry, st *unix.Stat_t) {
	e.Mode, e.UID, e.GID, e.Sec, e.Nsec = st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec, uint32(st.Mtim.Nsec)
}

// linked makes e a further name of a file that was sent, if it is one.
func (t *treeSender) linked(e *wire.Entry, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	id := inode{uint64(st.Dev), st.Ino}
	if first, ok := t.links[id]; ok {
		e.Type, e.Link = wire.EntryLink, first
		return true
	}
	if t.memory += len(e.Path) + 64; t.memory < linkMemory && e.Path != "." {
		t.links[id] = strings.Clone(e.Path)
	}
	return false
}

// children sends what is in a directory, some names at a time.
func (t *treeSender) children(fd int, path string) error {
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil && err != unix.ENOENT { // a directory that is gone
			return t.w.Warn("%s: %v", path, err)
		}
		if n <= 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var name string
			var kind byte
			if name, kind, rest = dirent(rest); name == "." || name == ".." {
				continue
			}
			if err := t.child(fd, path, name, kind); err != nil {
				return err
			}
		}
	}
}

// dirent is the first of the kernel's records in b, and what follows it.
func dirent(b []byte) (name string, kind byte, rest []byte) {
	const sizeAt, kindAt, nameAt = 16, 18, 19
	size := binary.NativeEndian.Uint16(b[sizeAt:])
	d := b[:size]
	text := d[nameAt:]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return string(text), d[kindAt], b[size:]
}

// child sends one name of a directory. What a regular file is like is asked
// when it is open: it takes a look-up less, and there may be thousands.
func (t *treeSender) child(dir int, path, name string, kind byte) error {
	full := name
	if path != "." {
		full = path + "/" + name
	}
	if len(full) > unix.PathMax-1 {
		return t.w.Warn("%.100s…: the path is too long", full)
	}
	st := unix.Stat_t{Mode: unix.S_IFREG}
	if kind != unix.DT_REG {
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			return nil // gone meanwhile
		}
		if err != nil {
			return t.w.Warn("%s: %v", full, err)
		}
	}
	return t.node(dir, name, full, &st, false)
}

// file sends a file and exactly the size of content that it has now.
func (t *treeSender) file(fd int, e *wire.Entry, st *unix.Stat_t) error {
	e.Size = st.Size
	if err := t.w.Entry(e); err != nil {
		return err
	}
	sparse := st.Blocks*512 < st.Size
	for at := int64(0); at < e.Size; {
		end := e.Size
		if sparse {
			data, err := unix.Seek(fd, at, unix.SEEK_DATA)
			switch {
			case err == unix.ENXIO:
				data = e.Size
			case err != nil:
				data, sparse = at, false
			}
			data = min(data, e.Size)
			if err := t.w.Hole(data - at); err != nil {
				return err
			}
			if at = data; sparse && at < e.Size {
				if hole, err := unix.Seek(fd, at, unix.SEEK_HOLE); err == nil && hole > at {
					end = min(hole, e.Size)
				}
			}
		}
		for at < end {
			room, err := t.w.Room()
			if err != nil {
				return err
			}
			n, err := pread(fd, room[:min(int64(len(room)), end-at)], at)
			if n <= 0 {
				t.total += at
				return t.short(e, at, err)
			}
			t.w.Wrote(n)
			at += int64(n)
		}
	}
	t.total += e.Size
	if e.Size < chunk {
		return nil // read at once
	}
	var now unix.Stat_t
	if unix.Fstat(fd, &now) == nil && (now.Size != st.Size || now.Mtim != st.Mtim) {
		return t.w.Warn("%s: it changed while it was read: %d bytes of %d were copied", e.Path, e.Size, now.Size)
	}
	return nil
}

// short fills up a file of which there was less than it said.
func (t *treeSender) short(e *wire.Entry, at int64, err error) error {
	if herr := t.w.Hole(t.w.Left()); herr != nil {
		return herr
	}
	if err != nil {
		return t.w.Warn("%s: reading it at %d: %v", e.Path, at, err)
	}
	return t.w.Warn("%s: it shrank from %d to %d bytes while it was read, zeros were added", e.Path, e.Size, at)
}

func pread(fd int, p []byte, at int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, at)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// kernelFS says that a directory is of a file system which the kernel makes
// up: there is nothing in it that could be copied, and no end of it.
func kernelFS(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC,
		unix.DEVPTS_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC:
		return true
	}
	return false
}

// xattrs are a file's extended attributes; list is room for their names. Where
// there are none, and almost nowhere are any, that costs one call.
func xattrs(fd int, list []byte) []wire.Xattr {
	n, err := unix.Flistxattr(fd, list)
	if err == unix.ERANGE { // the longest list that a kernel gives
		list = make([]byte, 64<<10)
		n, err = unix.Flistxattr(fd, list)
	}
	if err != nil || n == 0 {
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
