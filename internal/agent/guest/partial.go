package guest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	partialSuffix = ".part"
	partialKept   = 24 * time.Hour
	// lockPatience is for the stream before, which may not know yet that it broke.
	lockPatience = 10 * time.Second
)

// resume goes on with a file of which an earlier stream may have brought a
// part. What came of it is kept if the stream breaks again.
func (t *target) resume(st *wire.Stream, key string) (n int64, err error) {
	if !validID(key) {
		return 0, wire.Errorf(wire.Invalid, "writing %q: bad name of a partial file", t.path)
	}
	dir, name := filepath.Split(t.path)
	prefix := "." + name[:min(len(name), 150)] + "."
	sweepPartials(dir, prefix)
	tmp := filepath.Join(dir, prefix+key+partialSuffix)
	f, err := lockPartial(tmp)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	if err = st.SendControl(wire.Control{Stat: &wire.Stat{Path: t.path, Type: "file", Size: have}}); err != nil {
		return 0, err
	}
	n, err = receive(st, f)
	var stream *wire.Error
	switch {
	case err == nil:
		if err = t.finish(f, tmp); err != nil {
			os.Remove(tmp)
		}
	case errors.As(err, &stream) && have+n > 0:
		flush(f)
	default:
		os.Remove(tmp) // empty, or the disk is full
	}
	return have + n, err
}

// lockPartial opens a partial file that nobody else writes to.
func lockPartial(path string) (*os.File, error) {
	for end := time.Now().Add(lockPatience); ; time.Sleep(50 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			mine, err1 := f.Stat()
			now, err2 := os.Lstat(path)
			if err1 == nil && err2 == nil && os.SameFile(mine, now) && mine.Mode().IsRegular() {
				return f, nil
			}
		}
		f.Close()
		if time.Now().After(end) {
			return nil, wire.Errorf(wire.Conflict, "writing %q: the same file is being written by another", path)
		}
	}
}

// sweepPartials removes what nobody will go on with.
func sweepPartials(dir, prefix string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), partialSuffix) {
			continue
		}
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > partialKept {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
