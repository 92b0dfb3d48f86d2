package guest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// atOnce is how many names of a directory are in memory at a time. Each lot is
// sorted: so a directory of no more is sorted as a whole.
const atOnce = 8192

// maxPath is the kernel's: what has a longer one can't be named, only removed.
const maxPath = 4095

// node is a file that a walk has come to.
type node struct {
	dir  int    // the directory's descriptor, AT_FDCWD above all
	name string // in dir
	rel  string // to the walk's root, which is "."
	st   unix.Stat_t
}

func (n *node) isDir() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// walk goes through a tree by descriptors: whoever puts a symlink where a
// directory was does not lead it astray. What goes away meanwhile was not there.
type walk struct {
	self   bool // if path is a symlink, it is what is walked
	follow bool // what a symlink leads to is, also if it is a file
	depth  int  // 0: no limit
	stop   <-chan struct{}
	visit  func(*node) error // an error ends the walk
	enter  func(*node) bool  // whether to go into a directory; nil: yes
	leave  func(*node) error // after a directory, even if its path is too long to tell; nil: nothing
	failed func(rel string, err error) error
}

var errStopped = wire.Errorf(wire.Unavailable, "the host has gone")

// run walks path. If that is a symlink to a directory it is followed, unless
// it is asked for itself.
func (w *walk) run(path string) error {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if w.self {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openat(unix.AT_FDCWD, path, flags)
	if err != nil && err != unix.ENOTDIR && err != unix.ENOENT && err != unix.EACCES && (err != unix.ELOOP || !w.self) {
		return err
	}
	n := &node{dir: unix.AT_FDCWD, name: path, rel: "."}
	if err != nil {
		denied := err == unix.EACCES
		flags := unix.AT_SYMLINK_NOFOLLOW
		if w.follow {
			flags = 0
		}
		if err = fstatat(n.dir, path, &n.st, flags); err != nil {
			return err
		}
		if denied && n.isDir() {
			return unix.EACCES
		}
		return w.visit(n)
	}
	if err = unix.Fstat(fd, &n.st); err == nil {
		err = w.visit(n)
	}
	if err != nil || w.enter != nil && !w.enter(n) {
		unix.Close(fd)
		return err
	}
	return w.list(fd, "", 1)
}

// list walks what is in a directory, and closes it.
func (w *walk) list(fd int, rel string, depth int) error {
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	for {
		select {
		case <-w.stop:
			return errStopped
		default:
		}
		names, err := f.Readdirnames(atOnce)
		slices.Sort(names)
		for _, name := range names {
			if err := w.one(fd, name, filepath.Join(rel, name), depth); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || gone(err):
			return nil
		case err != nil:
			return w.failed(cleanRel(rel), err)
		}
	}
}

func (w *walk) one(dir int, name, rel string, depth int) error {
	n := &node{dir: dir, name: name, rel: rel}
	err := fstatat(dir, name, &n.st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case gone(err):
		return nil
	case len(rel) > maxPath && w.leave == nil:
		return w.failed(cleanRel(filepath.Dir(rel)[:min(len(filepath.Dir(rel)), maxPath)]), unix.ENAMETOOLONG)
	case err != nil:
		return w.failed(rel, err)
	}
	if err := w.visit(n); err != nil {
		return err
	}
	if !n.isDir() || depth == w.depth || w.enter != nil && !w.enter(n) {
		return nil
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	switch {
	case gone(err), err == unix.ENOTDIR, err == unix.ELOOP:
		return nil // another has taken its place
	case err != nil:
		return w.failed(rel, err)
	}
	err = w.list(fd, rel, depth+1)
	if err == nil && w.leave != nil {
		err = w.leave(n)
	}
	return err
}

func cleanRel(rel string) string { return filepath.Join(".", rel) }

// gone reports whether err says that a file isn't there any more. ESRCH is
// what /proc says of a process that has ended.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ESTALE)
}

func fstatat(dir int, name string, st *unix.Stat_t, flags int) error {
	for {
		if err := unix.Fstatat(dir, name, st, flags); err != unix.EINTR {
			return err
		}
	}
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// stat is what the host is told of n.
func (n *node) stat() *wire.Stat {
	r := &wire.Stat{
		Path: n.rel, Type: typeOf(n.st.Mode), Size: n.st.Size, Mode: n.st.Mode & 0o7777, UID: n.st.Uid, GID: n.st.Gid,
		Mtime: time.Unix(n.st.Mtim.Unix()), Inode: n.st.Ino,
	}
	if r.Type == "symlink" {
		var buf [maxPath]byte
		if k, err := unix.Readlinkat(n.dir, n.name, buf[:]); err == nil {
			r.Target = string(buf[:k])
		}
	}
	return r
}

func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "file"
}

// recorder packs records into frames.
type recorder struct {
	st      *wire.Stream
	packet  *wire.Packet
	n       int
	last    time.Time // something was sent
	scratch []byte
}

// soon is how long a record may wait for others to travel with.
const soon = 100 * time.Millisecond

func newRecorder(st *wire.Stream) *recorder {
	return &recorder{st: st, packet: new(wire.Packet), last: time.Now()}
}

func (r *recorder) add(rec *wire.Record) error {
	r.scratch = wire.AppendRecord(r.scratch[:0], rec)
	for b := r.scratch; len(b) > 0; {
		k := copy(r.packet.Data()[r.n:], b)
		b = b[k:]
		if r.n += k; len(b) > 0 {
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	if time.Since(r.last) > soon {
		return r.flush()
	}
	return nil
}

func (r *recorder) flush() error {
	if r.n == 0 {
		return nil
	}
	err := r.st.SendPacket(wire.KindData, r.packet, r.n)
	r.n, r.last = 0, time.Now()
	return err
}

// fail records what could not be looked at.
func (r *recorder) fail(rel, path string, err error) error {
	e := fileError("reading", path, err)
	return r.add(&wire.Record{Failed: &wire.Failure{Path: rel, Err: asError(e)}})
}
