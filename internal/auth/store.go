// Package auth decides who may do what over HTTP: the auth file with its
// password and keys, sessions and tickets, and the middleware that stands in
// front of every route.
//
// Authentication is off until the auth file is made (bandsox auth init), and
// off means: everything, for whoever is on this machine. A file that is there
// and can't be read never means off.
package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// Store is the auth file. Several processes may use one at once: each sees what
// another changed at its next look, and no change is lost.
type Store struct {
	path string
	now  func() time.Time

	cur  atomic.Pointer[snapshot]
	mu   sync.Mutex    // one reader of a changed file at a time
	gate chan struct{} // one password is hashed at a time: each takes 19 MiB
}

// snapshot is the file as it was at one time. It isn't changed.
type snapshot struct {
	*record
	raw     []byte
	keys    map[[4]byte][]*storedKey // by the first bytes of their hash
	ended   map[string]bool
	info    os.FileInfo
	settled bool // a later write is sure to show in info
}

// Open returns the store in the file at path, which need not be there.
func Open(path string) *Store {
	return &Store{path: path, now: time.Now, gate: make(chan struct{}, 1)}
}

// Enabled reports whether keys are needed: the file is there. The error says
// what to do about one that is there and no good.
func (s *Store) Enabled() (bool, error) {
	snap, err := s.load()
	return snap != nil, err
}

// load returns what the file says now, nil if there is none. It costs a stat
// unless the file has changed.
func (s *Store) load() (*snapshot, error) {
	cur := s.cur.Load()
	info, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) && cur == nil {
		return nil, nil
	}
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		info, err = os.Stat(s.path)
	}
	if err == nil && cur != nil && cur.settled && unchanged(cur.info, info) {
		return cur, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, err := s.read(s.cur.Load())
	if err == nil && snap == nil && s.cur.Load() != nil {
		return nil, wire.Errorf(wire.Unavailable, "auth file %s is gone", s.path).
			WithHint("restore it, or make a new one: bandsox auth init; to go on without keys, restart the server")
	}
	if err == nil {
		s.cur.Store(snap)
	}
	return snap, err
}

func unchanged(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads the file, nil if there is none. What it makes of it may share
// all but info with before, if that is given and the file says the same.
func (s *Store) read(before *snapshot) (*snapshot, error) {
	f, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would keep us waiting for ever
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, broken(s.path, errors.New("it is a link that leads nowhere"))
	}
	if err != nil {
		return nil, broken(s.path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, broken(s.path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, broken(s.path, errors.New("it is not a file"))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, broken(s.path, err)
	}
	// Clocks of file systems are coarse: a change right after this read could
	// leave the time as it is. So a young file is read again.
	settled := time.Since(info.ModTime()) > 2*time.Second
	if before != nil && bytes.Equal(before.raw, b) {
		same := *before
		same.info, same.settled = info, settled
		return &same, nil
	}
	r, err := decode(b)
	if err != nil {
		return nil, broken(s.path, err)
	}
	snap := &snapshot{record: r, raw: b, info: info, settled: settled, keys: map[[4]byte][]*storedKey{}, ended: map[string]bool{}}
	for i := range r.Keys {
		k := &r.Keys[i]
		h, _ := hex.DecodeString(k.Hash)
		snap.keys[[4]byte(h)] = append(snap.keys[[4]byte(h)], k)
	}
	for _, e := range r.Ended {
		snap.ended[e.Hash] = true
	}
	return snap, nil
}

// errSame, from a change, leaves the file as it is.
var errSame = errors.New("no change")

// update changes the file under its lock. change gets nil if there is no file,
// and may return another record than it got.
func (s *Store) update(ctx context.Context, change func(*record) (*record, error)) error {
	unlock, err := lock(ctx, s.path+".lock")
	if err != nil {
		return failure("locking", s.path, err)
	}
	defer unlock()
	snap, err := s.read(nil)
	if err != nil {
		return err
	}
	var r *record
	if snap != nil {
		r = snap.record
	}
	if r, err = change(r); errors.Is(err, errSame) {
		return nil
	} else if err != nil {
		return err
	}
	b, err := r.encode(s.now())
	if err != nil {
		return err
	}
	return failure("writing", s.path, replace(s.path, b))
}

// edit is update where there must be a file.
func (s *Store) edit(ctx context.Context, change func(*record) error) error {
	return s.update(ctx, func(r *record) (*record, error) {
		if r == nil {
			return nil, errOff()
		}
		return r, change(r)
	})
}

func errOff() *wire.Error {
	return wire.Errorf(wire.NotFound, "Authentication is not enabled").WithHint("bandsox auth init")
}

func failure(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	code := wire.Internal
	switch {
	case errors.Is(err, fs.ErrPermission):
		code = wire.Denied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		code = wire.Exhausted
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = wire.Timeout
	}
	return wire.Errorf(code, "%s %s: %w", doing, path, err)
}

// lock waits for the lock file at path. The kernel gives it up for the dead.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	likeDir(f)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// replace makes path hold b, all of it and on the disk, or leaves it as it was.
// Only the holder of the lock calls it, so one temporary name is enough, and
// what a killed process left goes with the next write.
func replace(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	likeDir(f)
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// likeDir gives a file that root makes to the owner of its directory: a server
// that runs as another user must be able to read what sudo made.
func likeDir(f *os.File) {
	if os.Geteuid() != 0 {
		return
	}
	if info, err := os.Stat(filepath.Dir(f.Name())); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(st.Uid), int(st.Gid))
		}
	}
}

// secret is n random bytes as hex.
func secret(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return hex.EncodeToString(b)
}
