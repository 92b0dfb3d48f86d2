package guest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// treeTaker writes a tree below one directory, with descriptors of it and of
// the directory in hand. What leads to a file is looked up as if that directory
// were the root of everything: neither "..", nor an absolute name, nor a
// symlink that was there or has just been made leads out of it. The last part
// of a name is never followed.
//
// The rules are those of docker cp: what is there and not a directory is
// replaced at once; a directory is kept and takes the entry's owner, mode and
// time; a directory in place of something else, or the reverse, is an error.
type treeTaker struct {
	r     *wire.TreeReader
	root  int
	made  bool // the root: then it takes what the tree says of it
	owner *ident
	chown bool // we may

	dir     int    // of the last entry
	dirPath string // its path; "." is the root
	plain   bool   // what is made in it is ours, and has the mode it is made with
	umask   uint32
	total   int64
}

// writeTree writes what the stream carries below r.Path.
func (s *service) writeTree(st *wire.Stream, r *wire.TreeRequest) (int64, error) {
	t := &treeTaker{chown: os.Geteuid() == 0, dir: -1, umask: umask()}
	if r.User != "" {
		id, err := lookupUser(r.User, s.readSmall("/etc/passwd"), s.readSmall("/etc/group"))
		if err != nil {
			return 0, err
		}
		t.owner = &id
	}
	full := s.path(r.Path)
	_, missing := os.Lstat(full)
	t.made = missing != nil
	err := makeParents(full, t.owner)
	if err == nil {
		t.root, err = unix.Open(full, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return 0, fileError("copying to", r.Path, err)
	}
	defer unix.Close(t.root)
	defer t.leave()
	t.r = wire.NewTreeReader(func() ([]byte, error) {
		kind, b, err := st.Recv()
		if err == nil && kind != wire.KindData {
			err = wire.Errorf(wire.Invalid, "a message where only data belongs")
		}
		return b, err
	})
	for {
		e, err := t.r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return t.total, err
		}
		if err := t.entry(e); err != nil {
			var known *wire.Error
			if errors.As(err, &known) {
				return t.total, err
			}
			return t.total, fileError("copying to", filepath.Join(r.Path, e.Path), err)
		}
	}
	if err := unix.Syncfs(t.root); err != nil { // once for all of them
		return t.total, fileError("flushing", r.Path, err)
	}
	return t.total, nil
}

func (t *treeTaker) leave() {
	if t.dir >= 0 && t.dir != t.root {
		unix.Close(t.dir)
	}
	t.dir = -1
}

// enter makes the directory of path the one in hand. Files come directory by
// directory, so most often it is already.
func (t *treeTaker) enter(path string) (name string, err error) {
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	if t.dir >= 0 && dir == t.dirPath {
		return name, nil
	}
	fd := t.root
	if dir != "." {
		if fd, err = t.beneath(dir); err != nil {
			return "", err
		}
	}
	t.leave()
	t.dir, t.dirPath = fd, strings.Clone(dir)
	var st unix.Stat_t
	t.plain = unix.Fstat(fd, &st) == nil && st.Mode&unix.S_ISGID == 0
	return name, nil
}

// umask is the process's, as the kernel tells it: to ask by changing it would
// change it for what is started meanwhile.
func umask() uint32 {
	_, rest, _ := strings.Cut(string(readKernel("/proc/self/status")), "\nUmask:\t")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(line, 8, 32)
	if err != nil {
		return 0o777
	}
	return uint32(mask)
}

// asMade says that a file needs no change of owner and mode if it is made with
// its mode: each is a write to the file system's journal, and those are most of
// what a small file costs.
func (t *treeTaker) asMade(e *wire.Entry) bool {
	ours := !t.chown || e.UID == 0 && e.GID == 0
	return t.plain && ours && e.Mode&(0o7000|t.umask) == 0 && len(e.Xattrs) == 0
}

// beneath opens a directory of the tree, and makes what leads to it.
func (t *treeTaker) beneath(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := openat2(t.root, dir, &how)
	if err != unix.ENOENT {
		return fd, err
	}
	up, name, dirFD := ".", dir, t.root
	if i := strings.LastIndexByte(dir, '/'); i >= 0 {
		up, name = dir[:i], dir[i+1:]
	}
	if up != "." {
		if dirFD, err = t.beneath(up); err != nil {
			return -1, err
		}
		defer unix.Close(dirFD)
	}
	if err := unix.Mkdirat(dirFD, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	if t.owner != nil && t.chown {
		unix.Fchownat(dirFD, name, int(t.owner.uid), int(t.owner.gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	if fd, err = openat2(t.root, dir, &how); err == unix.ENOENT {
		// It is there, so it leads to what isn't: seen from the root, as if that
		// were the root of everything.
		return -1, wire.Errorf(wire.NotFound, "copying into %q: it is a symbolic link to what is not there below the directory that is copied to", dir)
	}
	return fd, err
}

// openat2 tries again when a rename elsewhere made the kernel unsure.
func openat2(dir int, path string, how *unix.OpenHow) (fd int, err error) {
	for range 100 {
		if fd, err = unix.Openat2(dir, path, how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

// entry writes one file.
func (t *treeTaker) entry(e *wire.Entry) error {
	if t.owner != nil {
		e.UID, e.GID = t.owner.uid, t.owner.gid
	}
	if e.Path == "." {
		switch {
		case e.Type != wire.EntryDir:
			return syscall.ENOTDIR
		case !t.made:
			return nil
		}
		return t.dress(t.root, e)
	}
	name, err := t.enter(e.Path)
	if err != nil {
		return err
	}
	switch e.Type {
	case wire.EntryDir:
		return t.directory(name, e)
	case wire.EntryFile:
		return t.file(name, e)
	case wire.EntryLink:
		return t.link(name, e)
	}
	return t.place(name, func(name string) error { return t.special(name, e) })
}

func (t *treeTaker) directory(name string, e *wire.Entry) error {
	if err := unix.Mkdirat(t.dir, name, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := unix.Openat(t.dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return conflict(e.Path, "a directory can't replace what is not one")
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return t.dress(fd, e)
}

func conflict(path, why string) error {
	return wire.Errorf(wire.Conflict, "copying to %q: %s", path, why)
}

// place makes a file by calling create with its name. If there is one already,
// then create makes it under another name, and it takes the old one's place.
func (t *treeTaker) place(name string, create func(name string) error) error {
	err := create(name)
	if err != unix.EEXIST {
		return err
	}
	var st unix.Stat_t
	if unix.Fstatat(t.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return conflict(filepath.Join(t.dirPath, name), "what is not a directory can't replace one")
	}
	tmp := tempName(name)
	if err := create(tmp); err != nil {
		return err
	}
	err = unix.Renameat(t.dir, tmp, t.dir, name)
	unix.Unlinkat(t.dir, tmp, 0) // if that failed, or both were the same file already
	return err
}

// tempName is a name beside name that nobody else chooses.
func tempName(name string) string { return "." + name[:min(len(name), 200)] + "." + random() }

func (t *treeTaker) file(name string, e *wire.Entry) error {
	mode, dress := uint32(0o600), t.dress
	if t.asMade(e) {
		mode, dress = e.Mode, func(fd int, e *wire.Entry) error { return futimens(fd, times(e)) }
	}
	return t.place(name, func(name string) error {
		fd, err := unix.Openat(t.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err != nil {
			return err
		}
		err = t.content(fd)
		if err == nil {
			err = dress(fd, e)
		}
		unix.Close(fd)
		if err != nil {
			unix.Unlinkat(t.dir, name, 0)
		}
		return err
	})
}

// content writes a file's content, leaving holes where there is none.
func (t *treeTaker) content(fd int) error {
	at, hole := int64(0), false
	for {
		b, zeros, err := t.r.Content()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if at, hole = at+zeros, zeros > 0; len(b) > 0 {
			if err := pwrite(fd, b, at); err != nil {
				return err
			}
			at += int64(len(b))
		}
	}
	t.total += at
	if hole {
		return unix.Ftruncate(fd, at)
	}
	return nil
}

func pwrite(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// link makes a further name of a file that came earlier.
func (t *treeTaker) link(name string, e *wire.Entry) error {
	dir, old := t.root, e.Link
	if i := strings.LastIndexByte(e.Link, '/'); i >= 0 {
		fd, err := t.beneath(e.Link[:i])
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dir, old = fd, e.Link[i+1:]
	}
	return t.place(name, func(name string) error { return unix.Linkat(dir, old, t.dir, name, 0) })
}

// special makes what has no content.
func (t *treeTaker) special(name string, e *wire.Entry) error {
	var err error
	switch e.Type {
	case wire.EntrySymlink:
		err = unix.Symlinkat(e.Link, t.dir, name)
	case wire.EntryFifo:
		err = unix.Mknodat(t.dir, name, unix.S_IFIFO|0o600, 0)
	case wire.EntryChar:
		err = unix.Mknodat(t.dir, name, unix.S_IFCHR|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	case wire.EntryBlock:
		err = unix.Mknodat(t.dir, name, unix.S_IFBLK|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	}
	if err != nil {
		return err
	}
	if t.chown {
		err = unix.Fchownat(t.dir, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && e.Type != wire.EntrySymlink {
		err = unix.Fchmodat(t.dir, name, e.Mode, 0)
	}
	if err == nil {
		err = unix.UtimesNanoAt(t.dir, name, times(e), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		unix.Unlinkat(t.dir, name, 0)
	}
	return err
}

// dress gives an open file its owner, attributes, mode and time, in the order
// in which none undoes another.
func (t *treeTaker) dress(fd int, e *wire.Entry) error {
	if t.chown {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	for _, x := range e.Xattrs {
		err := unix.Fsetxattr(fd, x.Name, []byte(x.Value), 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM {
			return err
		}
	}
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return err
	}
	return futimens(fd, times(e))
}

func times(e *wire.Entry) []unix.Timespec {
	t := unix.Timespec{Sec: e.Sec, Nsec: int64(e.Nsec)}
	return []unix.Timespec{t, t}
}

// futimens sets the times of an open file.
func futimens(fd int, ts []unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
