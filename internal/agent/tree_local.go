package agent

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// ExtractOptions say what of a guest's tree the host takes over.
type ExtractOptions struct {
	Own     bool // owners
	Special bool // setuid and setgid bits, devices and fifos, attributes other than user.*
	Made    bool // the root was made for this: it takes the mode and time of the tree's
}

// Extract writes the tree below root. The guest may be hostile: every name is
// looked up by root, which lets none lead out, not by a symlink that was there
// and not by one of the tree's. The last part of a name is never followed, and
// what is changed is what was just made. What is there and no directory is
// replaced at once; a directory is kept, and takes the tree's mode and time.
func (t *Tree) Extract(root *os.Root, o ExtractOptions) error {
	x := &extraction{t: t, root: root, o: o}
	defer x.leave()
	for {
		e, err := t.Next()
		if err != nil && !t.ended {
			return err
		}
		if err != nil {
			if derr := x.finish(); derr != nil {
				return derr
			}
			return notEOF(err)
		}
		if err := x.entry(e); err != nil {
			var known *wire.Error
			if errors.As(err, &known) {
				return err
			}
			if err = bare(err); err.Error() == escapes {
				return wire.Errorf(wire.Denied, "writing %q: it leads out of the target directory", e.Path)
			}
			return &fs.PathError{Op: "writing", Path: e.Path, Err: err}
		}
	}
}

// escapes is what package os says, which has no name for the error.
const escapes = "path escapes from parent"

// bare is err without the operation and path of package os.
func bare(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}

type extraction struct {
	t    *Tree
	root *os.Root
	o    ExtractOptions
	dirs []*wire.Entry // to be dressed when nothing more is written to them

	path string   // of the directory in hand
	dir  *os.Root // nil: none
	fd   *os.File // the same
}

func (x *extraction) leave() {
	if x.dir != nil {
		x.dir.Close()
		x.fd.Close()
		x.dir = nil
	}
}

// enter takes the directory of a file in hand, and makes it if need be.
func (x *extraction) enter(dir string) error {
	if x.dir != nil && dir == x.path {
		return nil
	}
	x.leave()
	sub, err := x.root.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = x.root.MkdirAll(dir, 0o755); err == nil {
			sub, err = x.root.OpenRoot(dir)
		}
	}
	if err != nil {
		return err
	}
	fd, err := sub.Open(".")
	if err != nil {
		sub.Close()
		return err
	}
	x.path, x.dir, x.fd = strings.Clone(dir), sub, fd
	return nil
}

func (x *extraction) entry(e *wire.Entry) error {
	if e.Path == "." {
		if e.Type != wire.EntryDir {
			return wire.Errorf(wire.Invalid, "not a directory")
		}
		if x.o.Made {
			x.dirs = append(x.dirs, e)
		}
		return nil
	}
	if err := x.enter(path.Dir(e.Path)); err != nil {
		return err
	}
	name := path.Base(e.Path)
	switch e.Type {
	case wire.EntryDir:
		return x.directory(name, e)
	case wire.EntryFile:
		return x.place(name, func(name string) error { return x.file(name, e) })
	case wire.EntryLink:
		return x.place(name, func(name string) error { return x.root.Link(e.Link, path.Join(x.path, name)) })
	case wire.EntrySymlink:
		return x.place(name, func(name string) error { return x.bare(name, e, x.dir.Symlink(e.Link, name)) })
	}
	if !x.o.Special {
		return nil
	}
	return x.place(name, func(name string) error { return x.bare(name, e, x.mknod(name, e)) })
}

func (x *extraction) directory(name string, e *wire.Entry) error {
	err := x.dir.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		fi, err := x.dir.Lstat(name)
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return wire.Errorf(wire.Conflict, "writing %q: a directory can't replace what is not one", e.Path)
		}
	} else if err != nil {
		return err
	}
	x.dirs = append(x.dirs, e)
	return nil
}

// place makes a file by calling create with its name. If there is one already,
// then create makes it under another name, and it takes the old one's place.
func (x *extraction) place(name string, create func(name string) error) error {
	err := create(name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if fi, err := x.dir.Lstat(name); err == nil && fi.IsDir() {
		return wire.Errorf(wire.Conflict, "writing %q: what is not a directory can't replace one", path.Join(x.path, name))
	}
	tmp := ".bandsox-" + rand.Text()
	if err := create(tmp); err != nil {
		return err
	}
	err = x.dir.Rename(tmp, name)
	_ = x.dir.Remove(tmp) // if that failed, or both were the same file already
	return err
}

func (x *extraction) file(name string, e *wire.Entry) error {
	f, err := x.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = x.t.copyContent(f)
	if err == nil {
		err = f.Truncate(e.Size) // it may end in a hole
	}
	if err == nil {
		err = x.dress(f, e)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = unix.UtimesNanoAt(int(x.fd.Fd()), name, times(e), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		_ = x.dir.Remove(name)
	}
	return err
}

func (x *extraction) mknod(name string, e *wire.Entry) error {
	kind := map[byte]uint32{wire.EntryFifo: unix.S_IFIFO, wire.EntryChar: unix.S_IFCHR, wire.EntryBlock: unix.S_IFBLK}[e.Type]
	return unix.Mknodat(int(x.fd.Fd()), name, kind|e.Mode&0o777, int(unix.Mkdev(e.Major, e.Minor)))
}

// bare finishes what has no content, made with the error err.
func (x *extraction) bare(name string, e *wire.Entry, err error) error {
	if err != nil {
		return err
	}
	fd := int(x.fd.Fd())
	if x.o.Own {
		err = unix.Fchownat(fd, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = unix.UtimesNanoAt(fd, name, times(e), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		_ = x.dir.Remove(name)
	}
	return err
}

// dress gives an open file its owner, attributes and mode, in the order in
// which none undoes another.
func (x *extraction) dress(f *os.File, e *wire.Entry) error {
	fd := int(f.Fd())
	if x.o.Own {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	for _, a := range e.Xattrs {
		if !x.o.Special && !strings.HasPrefix(a.Name, "user.") {
			continue
		}
		err := unix.Fsetxattr(fd, a.Name, []byte(a.Value), 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM {
			return err
		}
	}
	mode := e.Mode
	if !x.o.Special {
		mode &^= 0o6000
	}
	return unix.Fchmod(fd, mode)
}

// finish dresses the directories, the deepest first.
func (x *extraction) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		e := x.dirs[i]
		f, err := x.root.OpenFile(e.Path, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		err = x.dress(f, e)
		if err == nil {
			err = unix.UtimesNanoAt(int(f.Fd()), ".", times(e), 0)
		}
		f.Close()
		if err != nil {
			return &fs.PathError{Op: "writing", Path: e.Path, Err: err}
		}
	}
	return nil
}

func times(e *wire.Entry) []unix.Timespec {
	t := unix.Timespec{Sec: e.Sec, Nsec: int64(e.Nsec)}
	return []unix.Timespec{t, t}
}
