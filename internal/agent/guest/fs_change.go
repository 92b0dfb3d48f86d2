package guest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// change does what op asks of files. What it returns is how often, where that
// means something.
func (s *service) change(op wire.Op, r *wire.ChangeRequest) (int64, error) {
	path, err := s.own(string(op), string(r.Path))
	if err != nil {
		return 0, err
	}
	switch op {
	case wire.OpMkdir:
		err = s.mkdir(path, r)
	case wire.OpRename:
		return 0, s.rename(path, r)
	case wire.OpRemove:
		err = s.remove(path, r)
	case wire.OpChmod:
		err = chmod(path, r)
	case wire.OpChown:
		err = s.chown(path, r)
	case wire.OpSymlink:
		if r.To == "" {
			return 0, wire.Errorf(wire.Invalid, "making the symlink %q: it leads to nothing", r.Path)
		}
		err = os.Symlink(string(r.To), path)
	case wire.OpReplace:
		var n int64
		if n, err = replaceText(path, r); err == nil {
			return n, nil
		}
	default:
		return 0, wire.Errorf(wire.Invalid, "serving the host: unknown request %q", op)
	}
	if err != nil {
		return 0, fail(doing(op), string(r.Path), err)
	}
	return 0, nil
}

// doing is op as an error says it.
func doing(op wire.Op) string {
	switch op {
	case wire.OpMkdir:
		return "making the directory"
	case wire.OpSymlink:
		return "making the symlink"
	case wire.OpRemove:
		return "removing"
	}
	return "changing"
}

// own is the path of something that may be changed as a file in its directory:
// anything but the root.
func (s *service) own(op, p string) (string, error) {
	if p == "" || strings.IndexByte(p, 0) >= 0 {
		return "", wire.Errorf(wire.Invalid, "doing %s: %q is no path", op, p)
	}
	return s.path(p), nil
}

func (s *service) isRoot(path string) bool {
	a, errA := os.Lstat(path)
	b, errB := os.Lstat(s.path("/"))
	return errA == nil && errB == nil && os.SameFile(a, b) // also by a bind mount
}

func (s *service) mkdir(path string, r *wire.ChangeRequest) error {
	owner, err := s.owner(r.Owner)
	if err != nil {
		return err
	}
	if r.Parents {
		if fi, err := os.Stat(path); err == nil && fi.IsDir() {
			return nil
		}
		var id *ident
		if owner != nil {
			id = &ident{uid: uint32(max(owner.uid, 0)), gid: uint32(max(owner.gid, 0))}
		}
		if err := makeParents(filepath.Dir(path), id); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		if fi, statErr := os.Stat(path); r.Parents && statErr == nil && fi.IsDir() {
			return nil // another made it just now
		}
		return err
	}
	if owner != nil {
		err = os.Lchown(path, owner.uid, owner.gid)
	}
	if err == nil {
		mode := r.Mode
		if mode == 0 {
			mode = 0o755
		}
		err = unix.Chmod(path, mode) // not by mkdir's, which umask cuts
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

func (s *service) rename(from string, r *wire.ChangeRequest) error {
	to, err := s.own("rename", string(r.To))
	if err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if r.Overwrite {
		flags = 0
	}
	err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if err == unix.EINVAL && flags != 0 { // some file systems can't
		if _, statErr := os.Lstat(to); statErr == nil {
			err = unix.EEXIST
		} else if errors.Is(statErr, fs.ErrNotExist) {
			err = unix.Rename(from, to)
		}
	}
	switch err {
	case nil:
		return nil
	case unix.EEXIST, unix.ENOTEMPTY, unix.ENOTDIR, unix.EISDIR: // of the new one
		return fileError("renaming "+strconv.Quote(string(r.Path))+" to", string(r.To), err)
	case unix.EXDEV:
		return wire.Errorf(wire.Invalid, "renaming %q to %q: they are on different file systems, copy it instead", r.Path, r.To)
	case unix.ENOENT:
		if _, statErr := os.Lstat(from); statErr == nil {
			return fileError("renaming to", string(r.To), err)
		}
	}
	return fileError("renaming", string(r.Path), err)
}

// remove never follows a symlink, nor one that takes a directory's place
// meanwhile. A directory that is filled while it is emptied is emptied again.
func (s *service) remove(path string, r *wire.ChangeRequest) error {
	if s.isRoot(path) {
		return wire.Errorf(wire.Denied, "removing %q: it is the root of everything", r.Path)
	}
	err := os.Remove(path)
	if !r.Recursive || !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	where := func(rel string, err error) error {
		return fail("removing", filepath.Join("/", string(r.Path), rel), err)
	}
	for range removeTries {
		w := walk{
			self: true,
			visit: func(n *node) error {
				if n.isDir() {
					return nil
				}
				if err := unix.Unlinkat(n.dir, n.name, 0); err != nil && !gone(err) {
					return where(n.rel, err)
				}
				return nil
			},
			leave: func(n *node) error {
				err := unix.Unlinkat(n.dir, n.name, unix.AT_REMOVEDIR)
				if err != nil && !gone(err) && err != unix.ENOTEMPTY && err != unix.EEXIST {
					return where(n.rel, err)
				}
				return nil
			},
			failed: where,
		}
		if err := w.run(path); err != nil {
			return err
		}
		if err = os.Remove(path); err == nil || !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return err
}

const removeTries = 100

// chmod never changes what a symlink below path leads to.
func chmod(path string, r *wire.ChangeRequest) error {
	if r.Mode > 0o7777 {
		return wire.Errorf(wire.Invalid, "changing the mode of %q: %o is none", r.Path, r.Mode)
	}
	if !r.Recursive {
		return unix.Chmod(path, r.Mode)
	}
	return below(path, r.Path, func(n *node) error {
		if n.st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil
		}
		fd, err := openat(n.dir, n.name, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return err
		}
		// A descriptor of O_PATH can be changed by its name alone.
		return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), r.Mode)
	})
}

func (s *service) chown(path string, r *wire.ChangeRequest) error {
	o, err := s.owner(r.Owner)
	if err != nil {
		return err
	}
	if o == nil {
		return wire.Errorf(wire.Invalid, "changing the owner of %q: to whom?", r.Path)
	}
	if !r.Recursive {
		if r.NoFollow {
			return unix.Lchown(path, o.uid, o.gid)
		}
		return unix.Chown(path, o.uid, o.gid)
	}
	return below(path, r.Path, func(n *node) error {
		return unix.Fchownat(n.dir, n.name, o.uid, o.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// below calls f for all of a tree, itself first, up to the first error.
func below(path string, asked wire.Text, f func(*node) error) error {
	where := func(rel string, err error) error {
		return fail("changing", filepath.Join("/", string(asked), rel), err)
	}
	w := walk{
		self: true,
		visit: func(n *node) error {
			if err := f(n); err != nil && !gone(err) {
				return where(n.rel, err)
			}
			return nil
		},
		failed: where,
	}
	return w.run(path)
}

// ownership is a uid and gid as chown takes them: -1 leaves what is there.
type ownership struct{ uid, gid int }

// owner reads "name", "uid", "name:group", ":group" and "name:", which is the
// user with his own group. Empty is nil.
func (s *service) owner(spec string) (*ownership, error) {
	if spec == "" {
		return nil, nil
	}
	o := &ownership{-1, -1}
	user, group, withGroup := strings.Cut(spec, ":")
	if user == "" && group == "" {
		return nil, wire.Errorf(wire.Invalid, "looking up owner %q: want name, uid, name:group or :group", spec)
	}
	groups := s.readSmall("/etc/group")
	if user != "" {
		id, err := lookupUser(user, s.readSmall("/etc/passwd"), groups)
		if err != nil {
			return nil, err
		}
		o.uid = int(id.uid)
		if withGroup {
			o.gid = int(id.gid)
		}
	}
	if group != "" {
		gid, err := lookupGroup(group, groups)
		if err != nil {
			return nil, err
		}
		o.gid = int(gid)
	}
	return o, nil
}

// replaceText puts new text in place of old in a file, as it is written anew
// beside itself: however long the file, a chunk of it is in hand at a time.
func replaceText(path string, r *wire.ChangeRequest) (int64, error) {
	if r.Old == "" || r.Limit < 0 || r.Expect < 0 {
		return 0, wire.Errorf(wire.Invalid, "replacing text in %q: what text, how often?", r.Path)
	}
	path, err := followLinks(path)
	if err != nil {
		return 0, err
	}
	src, err := openRegular(path)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	old, err := src.Stat()
	if err != nil {
		return 0, err
	}
	var done int64
	t := target{path: path, old: old}
	_, err = t.replace(func(f *os.File) (int64, error) {
		var found, n int64
		var err error
		if found, done, n, err = substitute(f, src, r); err != nil {
			return n, err
		}
		switch {
		case found == 0:
			return n, wire.Errorf(wire.NotFound, "replacing text in %q: the text is not in it", r.Path)
		case r.Expect > 0 && found != r.Expect:
			return n, wire.Errorf(wire.Conflict, "replacing text in %q: the text is in it %d times, not %d", r.Path, found, r.Expect)
		}
		return n, nil
	})
	return done, err
}

// substitute copies src to dst with the text replaced, and says how often it
// was found and how often replaced.
func substitute(dst, src *os.File, r *wire.ChangeRequest) (found, done, written int64, err error) {
	old := []byte(r.Old)
	buf := make([]byte, 0, chunk+len(old))
	put := func(s []byte) {
		if err == nil && len(s) > 0 {
			var n int
			n, err = dst.Write(s)
			written += int64(n)
		}
	}
	for end := false; !end && err == nil; {
		n, readErr := readFD(src, buf[len(buf):cap(buf)])
		if readErr != nil {
			return found, done, written, readErr
		}
		buf = buf[:len(buf)+max(n, 0)]
		end = n <= 0
		rest := buf
		for {
			i := bytes.Index(rest, old)
			if i < 0 {
				break
			}
			put(rest[:i])
			if found++; r.Limit == 0 || found <= r.Limit {
				done++
				put([]byte(r.New))
			} else {
				put(old)
			}
			rest = rest[i+len(old):]
		}
		keep := 0
		if !end {
			keep = min(len(rest), len(old)-1) // it may begin the next one
		}
		put(rest[:len(rest)-keep])
		buf = buf[:copy(buf[:cap(buf)], rest[len(rest)-keep:])]
	}
	return found, done, written, err
}
