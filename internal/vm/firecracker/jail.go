package firecracker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// The names in a Firecracker's directory: relative, so that they are right with
// a jail and without one, and the same in every machine.
const (
	apiSocket   = "fc.sock"
	vsockSocket = "vsock.sock"
	kernelFile  = "vmlinux"
	initrdFile  = "initrd"
	logFile     = "log"

	jailDir = "jail" // in Spec.Dir: all that is ours but the console's files
)

func driveName(i int) string { return "drive" + strconv.Itoa(i) }

// jail is a machine's directory, as its Firecracker sees it.
type jail struct {
	base string // Spec.Dir/jail
	root string // Firecracker's working directory in it
	id   string
	slot *slot // nil if we aren't root
	user bool  // it has a user of its own, the slot's
}

// file is one of the host's that a Firecracker knows by another name.
type file struct {
	name, path string
	write      bool
}

// newJail makes it and puts into it what the machine needs. What an earlier
// machine left there is gone then.
func newJail(dir string, l launch, binary string, c confinement) (_ *jail, err error) {
	j := &jail{base: filepath.Join(dir, jailDir), id: l.ID, user: c.jailer != ""}
	if j.root = filepath.Join(j.base, "root"); j.user { // the jailer's own choice
		j.root = filepath.Join(j.base, filepath.Base(binary), l.ID, "root")
	}
	if err := remove(j.base); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.remove())
		}
	}()
	if err := os.MkdirAll(j.root, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if j.slot, err = takeSlot(j.root, l.Spec); err != nil {
			return nil, err
		}
	}
	files := []file{{kernelFile, l.Kernel, false}, {initrdFile, l.Initrd, false}}
	if l.from != "" {
		files = append(files, file{savedState, filepath.Join(l.from, vm.SavedState), false}, file{savedMemory, l.memory, false})
	}
	for i, d := range l.Drives {
		files = append(files, file{driveName(i), d.Path, !d.ReadOnly})
	}
	for _, f := range files {
		if f.path == "" {
			continue
		}
		if err := j.put(f.name, f.path, f.write); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// console is the pipe that the guest's serial port comes out of.
func (j *jail) console() string { return filepath.Join(j.base, "console") }

// put makes a file of the host known by name. Into a jail it is linked, or, from
// another file system, mounted. Its user owns what it may write to, which is the
// machine's own; what it may only read others may, too: that lies in directories
// that none of them can reach.
func (j *jail) put(name, path string, write bool) error {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return err
	}
	at := filepath.Join(j.root, name)
	if !j.user {
		return os.Symlink(path, at)
	}
	err = os.Link(path, at)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) {
		err = bind(path, at)
	}
	if err != nil {
		return err
	}
	if write {
		return j.own(name)
	}
	st, err := os.Stat(path)
	if err == nil && st.Mode()&0o004 == 0 {
		err = os.Chmod(path, st.Mode().Perm()|0o004)
	}
	return err
}

// own gives a file to the jail's user.
func (j *jail) own(name string) error {
	if !j.user {
		return nil
	}
	return os.Lchown(filepath.Join(j.root, name), j.slot.uid(), j.slot.uid())
}

// bind mounts a file on another.
func bind(path, at string) error {
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := unix.Mount(path, at, "", unix.MS_BIND, ""); err != nil {
		return wire.Errorf(wire.Unavailable, "putting %q into the jail: it is on another file system, and mounting it: %w", path, err)
	}
	return nil
}

// booted takes away what only a boot needs.
func (j *jail) booted() {
	for _, name := range []string{kernelFile, initrdFile} {
		at := filepath.Join(j.root, name)
		_ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		_ = os.Remove(at)
	}
}

// remove takes the jail away when nobody is in it any more, and gives its
// user's number and its limits back.
func (j *jail) remove() error {
	err := remove(j.base)
	if j.slot != nil {
		err = errors.Join(err, j.slot.free())
	}
	return err
}

// remove takes away what a jail, living or left over, has. What is mounted there
// is let go of, never deleted.
func remove(base string) error {
	roots, _ := filepath.Glob(filepath.Join(base, "*", "*", "root"))
	for _, root := range append(roots, filepath.Join(base, "root")) {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				_ = unix.Unmount(filepath.Join(root, e.Name()), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			}
		}
	}
	return os.RemoveAll(base)
}
