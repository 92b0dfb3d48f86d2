package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// temp is a file on its way to its name.
type temp struct {
	*os.File
	path string // where it will be
	done bool
}

func newTemp(path string) (*temp, error) {
	f, err := os.CreateTemp(filepath.Dir(path), TempPattern)
	if err != nil {
		return nil, err
	}
	return &temp{File: f, path: path}, nil
}

// discard is for defer: it removes the file unless it got its name.
func (t *temp) discard() {
	t.Close()
	if !t.done {
		os.Remove(t.Name())
	}
}

// How a finished file gets its name.
type publish struct {
	mode    os.FileMode
	durable bool // survives a crash of the host
	replace bool // takes the place of a file of that name
}

func (t *temp) publish(p publish) error {
	if err := t.Chmod(p.mode); err != nil {
		return err
	}
	if p.durable {
		if err := t.Sync(); err != nil {
			return err
		}
	}
	// Some file systems report a failed write only here.
	if err := t.Close(); err != nil {
		return err
	}
	if err := rename(t.Name(), t.path, p.replace); err != nil {
		return err
	}
	t.done = true
	if !p.durable {
		return nil
	}
	return syncDir(filepath.Dir(t.path))
}

func rename(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	}
	// NFS and others can't do that at once; a link never replaces either.
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// absent fails early when something has the name already.
func absent(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return nil
}
