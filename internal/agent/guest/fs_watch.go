package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// halfMove is how long the second half of a rename is waited for.
const halfMove = 20 * time.Millisecond

// watch tells the host what changes until it has heard enough, or what is
// watched has gone. Only directories are watched, and a file by its directory:
// so it stays the same file when another is renamed over it.
func (s *service) watch(st *wire.Stream, r *wire.WatchRequest) (int64, error) {
	w, err := s.openWatcher(st, r)
	if err != nil {
		return 0, fail("watching", string(r.Path), err)
	}
	defer w.f.Close()
	stat, err := s.stat(string(r.Path))
	if err != nil {
		return 0, err
	}
	if err := st.SendControl(wire.Control{Stat: &stat}); err != nil {
		return 0, err
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-st.Done():
			w.f.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	if err := w.loop(st.Done()); err != nil {
		return 0, fail("watching", string(r.Path), err)
	}
	return w.told, w.out.flush()
}

// maxFound bounds what is remembered of new directories: of a big tree that is
// moved in, what is made meanwhile is told twice.
const maxFound = 10_000

type watcher struct {
	f         *os.File // of inotify
	root      string   // directory that is watched
	only      string   // the name in it that is of interest; "": all
	recursive bool
	out       *recorder
	told      int64

	dirs  map[int]string  // path below root by watch descriptor
	found map[string]bool // told by a look into a new directory: not to be told again
	moved *wire.FileEvent // the first half of a rename
	from  uint32          // its cookie
	last  wire.FileEvent
	ended bool // the root is gone
}

func (s *service) openWatcher(st *wire.Stream, r *wire.WatchRequest) (*watcher, error) {
	path := s.path(string(r.Path))
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		fi, err = os.Lstat(path) // a symlink to nothing is something
	}
	if err != nil {
		return nil, err
	}
	w := &watcher{
		root: path, recursive: r.Recursive, out: newRecorder(st),
		dirs: map[int]string{}, found: map[string]bool{},
	}
	if !fi.IsDir() {
		w.root, w.only, w.recursive = filepath.Dir(path), filepath.Base(path), false
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w.f = os.NewFile(uintptr(fd), "inotify")
	if err := w.add(".", false); err != nil {
		w.f.Close()
		return nil, err
	}
	return w, nil
}

// add watches a directory, and if that is asked for those below. tell tells of
// what is in it, which was made before anyone could see it made.
func (w *watcher) add(rel string, tell bool) error {
	path := filepath.Join(w.root, rel)
	flags := uint32(watched)
	if rel != "." {
		flags |= unix.IN_DONT_FOLLOW
	}
	var wd int
	err := withFD(w.f, func(fd int) (err error) {
		wd, err = unix.InotifyAddWatch(fd, path, flags)
		return err
	})
	switch {
	case err == unix.ENOSPC:
		return wire.Errorf(wire.Exhausted, "watching %q: it takes more watches than the guest's fs.inotify.max_user_watches", rel)
	case rel != "." && (gone(err) || err == unix.ENOTDIR || err == unix.ELOOP):
		return nil
	case err != nil:
		return err
	}
	w.dirs[wd] = rel
	if !w.recursive {
		return nil
	}
	d, err := os.Open(path)
	if gone(err) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Close()
	for {
		list, err := d.ReadDir(1024)
		for _, e := range list {
			child := filepath.Join(rel, e.Name())
			if tell {
				if len(w.found) < maxFound {
					w.found[child] = true
				}
				if err := w.tell(wire.FileEvent{Path: child, Op: wire.FileCreated, Dir: e.IsDir()}); err != nil {
					return err
				}
			}
			if e.IsDir() {
				if err := w.add(child, tell); err != nil {
					return err
				}
			}
		}
		if err != nil || len(list) == 0 {
			return nil // the end, or it has gone
		}
	}
}

// loop reads what the kernel tells. It reads no faster than the host does: what
// is too much then is the kernel's to count, and it says so.
func (w *watcher) loop(stop <-chan struct{}) error {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for !w.ended {
		if err := w.out.flush(); err != nil {
			return err
		}
		if w.moved != nil {
			w.f.SetReadDeadline(time.Now().Add(halfMove))
		} else {
			w.f.SetReadDeadline(time.Time{})
		}
		if closed(stop) { // which may have set a deadline before we did
			return errStopped
		}
		var n int
		var readErr error
		err := conn.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			if readErr == unix.EAGAIN {
				clear(w.found) // all that was made before the look has been told
			}
			return readErr != unix.EAGAIN && readErr != unix.EINTR
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && w.moved != nil:
			n = 0
			if err := w.half(); err != nil {
				return err
			}
		case err != nil:
			return err
		case readErr != nil:
			return readErr
		}
		if err := w.events(buf[:max(n, 0)]); err != nil {
			return err
		}
	}
	return nil
}

// events takes what one read gave: whole events.
func (w *watcher) events(b []byte) error {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int(int32(binary.NativeEndian.Uint32(b)))
		mask, cookie, size := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
		b = b[unix.SizeofInotifyEvent:]
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		b = b[size:]
		if err := w.event(wd, mask, cookie, string(name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) event(wd int, mask, cookie uint32, name string) error {
	if w.moved != nil && (mask&unix.IN_MOVED_TO == 0 || cookie != w.from) {
		if err := w.half(); err != nil {
			return err
		}
	}
	dir, known := w.dirs[wd]
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		w.last = wire.FileEvent{}
		if err := w.tell(wire.FileEvent{Path: ".", Op: wire.FileOverflow}); err != nil {
			return err
		}
		return w.add(".", false) // directories may have come unseen
	case mask&unix.IN_IGNORED != 0:
		delete(w.dirs, wd)
		w.ended = w.ended || dir == "." // unmounted
		return nil
	case !known, name == "" && dir != ".": // its parent tells of a directory itself
		return nil
	case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
		w.ended = true
		return w.tell(wire.FileEvent{Path: ".", Op: wire.FileRemoved, Dir: true})
	case w.only != "" && name != w.only && (mask&unix.IN_MOVED_TO == 0 || w.moved == nil):
		return nil
	}
	e := wire.FileEvent{Path: filepath.Join(dir, name), Dir: mask&unix.IN_ISDIR != 0}
	switch {
	case mask&unix.IN_CREATE != 0:
		e.Op = wire.FileCreated
	case mask&unix.IN_DELETE != 0:
		e.Op = wire.FileRemoved
		delete(w.found, e.Path)
	case mask&unix.IN_MODIFY != 0:
		e.Op = wire.FileModified
	case mask&unix.IN_ATTRIB != 0:
		e.Op = wire.FileAttrib
	case mask&unix.IN_MOVED_FROM != 0:
		e.Op, e.Time = wire.FileRemoved, time.Now()
		w.moved, w.from = &e, cookie
		delete(w.found, e.Path)
		return nil
	case mask&unix.IN_MOVED_TO != 0 && w.moved != nil:
		e.Op, e.From = wire.FileRenamed, w.moved.Path
		w.moved = nil
		if e.Dir && w.recursive {
			w.rename(e.From, e.Path)
		}
		return w.tell(e)
	case mask&unix.IN_MOVED_TO != 0:
		e.Op = wire.FileCreated
	}
	return w.happened(e)
}

// happened tells of e, and looks into a directory that is new.
func (w *watcher) happened(e wire.FileEvent) error {
	if e.Op == wire.FileCreated && w.found[e.Path] {
		delete(w.found, e.Path)
		return nil
	}
	if err := w.tell(e); err != nil || !w.recursive || !e.Dir || e.Op != wire.FileCreated {
		return err
	}
	return w.add(e.Path, true)
}

// half tells of a rename whose other half is nowhere that is watched.
func (w *watcher) half() error {
	e := *w.moved
	w.moved = nil
	if e.Dir {
		for wd, dir := range w.dirs {
			if dir == e.Path || strings.HasPrefix(dir, e.Path+"/") {
				withFD(w.f, func(fd int) error { _, err := unix.InotifyRmWatch(fd, uint32(wd)); return err })
				delete(w.dirs, wd)
			}
		}
	}
	return w.tell(e)
}

// rename notes the new paths of a directory and those below it.
func (w *watcher) rename(from, to string) {
	for wd, dir := range w.dirs {
		if rest, ok := strings.CutPrefix(dir+"/", from+"/"); ok {
			w.dirs[wd] = filepath.Join(to, rest)
		}
	}
}

// tell tells the host, but of the same thing happening again and again once a
// read.
func (w *watcher) tell(e wire.FileEvent) error {
	if w.only != "" { // what the host asked for is the file
		if e.Op == wire.FileRenamed && e.Path != w.only {
			e = wire.FileEvent{Path: e.From, Op: wire.FileRemoved}
		} else if e.Op == wire.FileRenamed {
			e = wire.FileEvent{Path: e.Path, Op: wire.FileCreated}
		}
		e.Path = "."
	}
	if e == w.last && (e.Op == wire.FileModified || e.Op == wire.FileAttrib) && w.out.n > 0 {
		return nil
	}
	w.last = e
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	w.told++
	return w.out.add(&wire.Record{Event: &e})
}
