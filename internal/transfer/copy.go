package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// Options are for Upload and Download. The zero value copies.
type Options struct {
	// Perm is the mode of the copy; 0: that of the original, setuid aside.
	Perm fs.FileMode
	// Resume keeps what has come when the copying breaks, for a day, and goes on
	// there next time if the original is the same: size, time and inode.
	Resume bool
	// Sum has the copy's SHA-256 computed, here.
	Sum bool
	// Progress is called now and then with the bytes that have been copied.
	Progress func(done, total int64)
}

// Result says what was copied.
type Result struct {
	Bytes   int64  `json:"bytes"`             // of the whole file
	Resumed int64  `json:"resumed,omitempty"` // of them, there already
	SHA256  string `json:"sha256,omitempty"`  // hex, if it was asked for
}

const (
	partialSuffix = ".part"
	partialKept   = 24 * time.Hour
)

// Upload copies a file of this host to path in the sandbox, where parents are
// made. The file there is replaced at once, or stays as it was.
func (s *Side) Upload(ctx context.Context, local, path string, o Options) (Result, error) {
	t, err := s.upload(ctx, local, path, o)
	return t, s.Fail("upload", local, err)
}

func (s *Side) upload(ctx context.Context, local, path string, o Options) (t Result, err error) {
	f, fi, err := openLocal(local)
	if err != nil {
		return t, err
	}
	defer f.Close()
	if o.Perm == 0 {
		o.Perm = fi.Mode().Perm()
	}
	w := wire.WriteRequest{Path: path, Mode: ModeBits(o.Perm), Parents: true}
	m := &meter{total: fi.Size(), report: o.Progress}
	if o.Sum {
		m.hash = sha256.New()
	}
	if !o.Resume {
		t.Bytes, err = s.Remote.Write(ctx, w, io.TeeReader(f, m))
	} else {
		w.Partial = partialKey(local, fi.Size(), fi.ModTime(), inodeOf(fi))
		t.Bytes, err = s.Remote.Resume(ctx, w, func(have int64) (io.Reader, error) {
			if have > fi.Size() {
				return nil, wire.Errorf(wire.Conflict, "the guest has %d bytes of a file of %d", have, fi.Size())
			}
			t.Resumed, m.done = have, have
			return io.TeeReader(f, m), m.skip(f, have)
		})
	}
	if err == nil {
		t.SHA256 = m.sum()
	}
	return t, err
}

func openLocal(path string) (*os.File, fs.FileInfo, error) {
	fi, err := os.Stat(path) // first: to open a fifo waits
	if err != nil {
		return nil, nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, nil, wire.Errorf(wire.Invalid, "not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	if fi, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

func inodeOf(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// partialKey names the part of a file that has been copied: another file, or
// the same after a change, has another.
func partialKey(path string, size int64, mtime time.Time, inode uint64) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d %d %d", path, size, mtime.UnixNano(), inode))
	return hex.EncodeToString(h[:12])
}

// meter hashes, counts and reports what goes through.
type meter struct {
	hash   hash.Hash
	done   int64
	total  int64
	report func(done, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	if m.hash != nil {
		m.hash.Write(p)
	}
	m.done += int64(len(p))
	if m.report != nil {
		m.report(m.done, m.total)
	}
	return len(p), nil
}

// skip goes to offset n of f, which stands at its beginning, and hashes what
// it passes if that is asked for.
func (m *meter) skip(f *os.File, n int64) (err error) {
	if m.hash != nil {
		_, err = io.CopyN(m.hash, f, n)
	}
	if err == nil {
		_, err = f.Seek(n, io.SeekStart)
	}
	return err
}

func (m *meter) sum() string {
	if m.hash == nil {
		return ""
	}
	return hex.EncodeToString(m.hash.Sum(nil))
}

// Download copies a file of the sandbox to a path of this host, whose
// directory must exist. The file there is replaced at once, or stays as it was.
func (s *Side) Download(ctx context.Context, path, local string, o Options) (Result, error) {
	t, err := s.download(ctx, path, local, o)
	return t, s.Fail("download", path, err)
}

func (s *Side) download(ctx context.Context, path, local string, o Options) (t Result, err error) {
	if fi, err := os.Stat(local); err == nil && !fi.Mode().IsRegular() {
		return t, wire.Errorf(wire.Invalid, "%s is not a regular file", local)
	}
	st, r, err := s.Remote.Read(ctx, wire.ReadRequest{Path: path})
	if err != nil {
		return t, err
	}
	defer func() { r.Close() }()
	f, err := s.landing(path, local, st, o)
	if err != nil {
		return t, err
	}
	defer func() {
		// A process that is being started has a copy of the file, and of its
		// lock, which closing doesn't take away.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}()
	keep := false
	defer func() {
		if err != nil && !keep {
			os.Remove(f.Name())
		}
	}()
	m := &meter{total: st.Size, report: o.Progress}
	if o.Sum {
		m.hash = sha256.New()
	}
	if t.Resumed, err = f.Seek(0, io.SeekEnd); err != nil {
		return t, err
	}
	if t.Resumed > st.Size {
		t.Resumed = 0
	}
	if err := errors.Join(f.Truncate(t.Resumed), rewind(f), m.skip(f, t.Resumed)); err != nil {
		return t, err
	}
	m.done = t.Resumed
	if t.Resumed > 0 {
		r.Close()
		var again wire.Stat
		if again, r, err = s.Remote.Read(ctx, wire.ReadRequest{Path: path, Offset: t.Resumed}); err != nil {
			keep = true
			return t, err
		}
		if !same(st, again) {
			return t, fileChanged(path)
		}
	}
	if _, err = io.Copy(io.MultiWriter(&early{f: f, at: t.Resumed, told: t.Resumed}, m), r); err != nil {
		keep = o.Resume && m.done > 0 && !errors.Is(err, syscall.ENOSPC)
		return t, err
	}
	if t.Resumed > 0 {
		now, nr, err := s.Remote.Read(ctx, wire.ReadRequest{Path: path, Offset: st.Size})
		if err != nil {
			keep = true
			return t, err
		}
		nr.Close()
		if !same(st, now) || m.done != st.Size {
			return t, fileChanged(path)
		}
	}
	t.Bytes, t.SHA256 = m.done, m.sum()
	return t, land(f, local, cmpPerm(o.Perm, st))
}

// earlyBytes is how much of a file is written before the disk is told.
const earlyBytes = 4 << 20

// early has the disk begin with what is written, so that a flush at the end
// waits for the last of it alone.
type early struct {
	f        *os.File
	at, told int64
}

func (e *early) Write(p []byte) (int, error) {
	n, err := e.f.Write(p)
	if e.at += int64(n); e.at-e.told >= earlyBytes {
		// A hint: a file system that can't take it writes when it is flushed.
		_ = unix.SyncFileRange(int(e.f.Fd()), e.told, e.at-e.told, unix.SYNC_FILE_RANGE_WRITE)
		e.told = e.at
	}
	return n, err
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func cmpPerm(perm fs.FileMode, st wire.Stat) uint32 {
	if perm != 0 {
		return ModeBits(perm)
	}
	return st.Mode & 0o777
}

func same(a, b wire.Stat) bool {
	return a.Inode == b.Inode && a.Size == b.Size && a.Mtime.Equal(b.Mtime)
}

func fileChanged(path string) error {
	return wire.Errorf(wire.Conflict, "%q changed between two parts of the copying: start again", path)
}

// landing is the file beside local that is written to first: a new one, or
// with o.Resume what came of the same file before.
func (s *Side) landing(path, local string, st wire.Stat, o Options) (*os.File, error) {
	dir, name := filepath.Split(local)
	if dir == "" {
		dir = "."
	}
	if !o.Resume {
		return os.CreateTemp(dir, ".bandsox-*")
	}
	prefix := "." + name[:min(len(name), 150)] + "."
	entries, _ := os.ReadDir(dir)
	for _, e := range entries { // what nobody will go on with
		if !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), partialSuffix) {
			continue
		}
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > partialKept {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	key := partialKey("/"+s.ID+"/"+path, st.Size, st.Mtime, st.Inode)
	tmp := filepath.Join(dir, prefix+key+partialSuffix)
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	mine, err := f.Stat()
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if now, lerr := os.Lstat(tmp); err != nil || lerr != nil || !os.SameFile(mine, now) || !mine.Mode().IsRegular() {
		f.Close()
		return nil, wire.Errorf(wire.Conflict, "another download writes %s now", tmp)
	}
	return f, nil
}

// land gives f its mode and puts it in the place of local.
func land(f *os.File, local string, mode uint32) error {
	if err := unix.Fchmod(int(f.Fd()), mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), local)
}
