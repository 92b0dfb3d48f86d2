package guest

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// write replaces a file by what the stream carries, or adds that to its end.
func (s *service) write(st *wire.Stream, r *wire.WriteRequest) (int64, error) {
	fail := func(err error) (int64, error) {
		var e *wire.Error
		if errors.As(err, &e) {
			return 0, err
		}
		return 0, fileError("writing", r.Path, err)
	}
	if r.Path == "" || r.Path[len(r.Path)-1] == '/' {
		return fail(syscall.EISDIR)
	}
	var owner *ident
	if r.User != "" {
		id, err := lookupUser(r.User, s.readSmall("/etc/passwd"), s.readSmall("/etc/group"))
		if err != nil {
			return 0, err
		}
		owner = &id
	}
	path, err := followLinks(s.path(r.Path))
	if err != nil {
		return fail(err)
	}
	if r.Parents {
		if err := makeParents(filepath.Dir(path), owner); err != nil {
			return fail(err)
		}
	}
	old, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return fail(err)
	case old.IsDir():
		return fail(syscall.EISDIR)
	case r.New && !r.Append:
		return fail(syscall.EEXIST)
	case !old.Mode().IsRegular():
		return 0, wire.Errorf(wire.Invalid, "writing %q: not a regular file", r.Path)
	}
	t := target{path: path, old: old, mode: r.Mode & 0o7777, owner: owner, fresh: r.New}
	n := int64(0)
	switch {
	case r.Append:
		n, err = t.append(st)
	case r.Partial != "":
		n, err = t.resume(st, r.Partial)
	default:
		n, err = t.replace(func(f *os.File) (int64, error) { return receive(st, f) })
	}
	if err != nil {
		return fail(err)
	}
	return n, nil
}

// target is the file to write.
type target struct {
	path  string
	old   fs.FileInfo // nil if there was none
	mode  uint32      // 0: not asked for
	owner *ident      // nil: not asked for
	fresh bool        // it must take the place of nothing
}

func (t *target) append(st *wire.Stream) (int64, error) {
	fd, err := open(t.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), t.path)
	defer f.Close()
	n, err := receive(st, f)
	if err == nil && (t.old == nil || t.mode != 0 || t.owner != nil) {
		err = t.dress(f)
	}
	if err == nil {
		err = flush(f)
	}
	return n, err
}

// replace lets fill write beside the old file and renames, so that the old one
// stays whole until the new one is.
func (t *target) replace(fill func(*os.File) (int64, error)) (n int64, err error) {
	dir, name := filepath.Split(t.path)
	tmp := filepath.Join(dir, tempName(name))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(tmp)
		}
	}()
	if n, err = fill(f); err == nil {
		err = t.finish(f, tmp)
	}
	return n, err
}

// finish puts f, whole and named tmp, in the place of the target.
func (t *target) finish(f *os.File, tmp string) error {
	if err := t.keepAttributes(f); err != nil {
		return err
	}
	if err := t.dress(f); err != nil { // last: a mode asked for counts more than an access list
		return err
	}
	if err := flush(f); err != nil {
		return err
	}
	if err := t.rename(tmp); err != nil {
		return err
	}
	if d, err := os.Open(filepath.Dir(t.path)); err == nil {
		flush(d)
		d.Close()
	}
	return nil
}

// keepAttributes gives f the extended attributes of the file whose place it
// takes, but for what tells of its content: a write in place ends those too.
func (t *target) keepAttributes(f *os.File) error {
	if t.old == nil {
		return nil
	}
	old, err := open(t.path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil // gone meanwhile, or not ours to look at
	}
	defer unix.Close(old)
	for _, x := range xattrs(old, make([]byte, 1<<10)) {
		switch x.Name {
		case "security.capability", "security.ima", "security.evm":
			continue
		}
		err := unix.Fsetxattr(int(f.Fd()), x.Name, []byte(x.Value), 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM {
			return err
		}
	}
	return nil
}

func (t *target) rename(tmp string) error {
	if t.fresh {
		return unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, t.path, unix.RENAME_NOREPLACE)
	}
	return os.Rename(tmp, t.path)
}

// dress gives f the owner and mode asked for, else those of the old file.
func (t *target) dress(f *os.File) error {
	mode := t.mode
	var uid, gid uint32
	if t.old != nil {
		st := t.old.Sys().(*syscall.Stat_t)
		uid, gid = st.Uid, st.Gid
		if mode == 0 {
			mode = st.Mode & 0o7777
		}
	}
	if t.owner != nil {
		uid, gid = t.owner.uid, t.owner.gid
	}
	if mode == 0 {
		mode = 0o644
	}
	if os.Geteuid() == 0 {
		if err := f.Chown(int(uid), int(gid)); err != nil {
			return err
		}
	}
	return unix.Fchmod(int(f.Fd()), mode) // after chown, which clears setuid
}

// receive writes what the host sends until it says that this was all. A stream
// that breaks is an error.
func receive(st *wire.Stream, w io.Writer) (int64, error) {
	total := int64(0)
	for {
		kind, b, err := st.Recv()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		if kind != wire.KindData {
			return total, wire.Errorf(wire.Invalid, "a message where only data belongs")
		}
		n, err := w.Write(b)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// flush flushes f, where there is something to flush to.
func flush(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// maxLinks is the kernel's own limit.
const maxLinks = 40

// followLinks returns what the last component of path means: to write a file
// through a symlink changes the file, not the link.
func followLinks(path string) (string, error) {
	for range maxLinks {
		link, err := os.Readlink(path)
		if err != nil {
			return path, nil // not a link, or not there
		}
		if !filepath.IsAbs(link) {
			link = filepath.Dir(path) + "/" + link // not Join: ".." after a symlink is not lexical
		}
		path = link
	}
	return "", syscall.ELOOP
}

// makeParents makes dir and what leads to it; what it makes is owner's.
func makeParents(dir string, owner *ident) error {
	if fi, err := os.Stat(dir); err == nil {
		if fi.IsDir() {
			return nil
		}
		return syscall.ENOTDIR
	}
	if up := filepath.Dir(dir); up != dir {
		if err := makeParents(up, owner); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another made it just now
		}
		return err
	}
	if owner != nil && os.Geteuid() == 0 {
		return os.Chown(dir, int(owner.uid), int(owner.gid))
	}
	return nil
}

// random is 16 letters that nobody else chooses; package crypto/rand would be a
// tenth of the agent.
func random() string {
	var b [8]byte
	unix.Getrandom(b[:], 0)
	return hex.EncodeToString(b[:])
}
