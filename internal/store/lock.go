package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is what TryLock returns when another holds the lock.
var ErrLocked = errors.New("locked")

// FileLock is an advisory lock on a file. The kernel gives it up when its
// holder dies, so no lock outlives a kill -9.
type FileLock struct{ f *os.File }

// TryLock takes the lock on path, exclusively, or says at once who has it.
func TryLock(path string) (*FileLock, error) {
	l, err := lock(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, ErrLocked) {
		if pid := holder(path); pid != "" {
			return nil, fmt.Errorf("%w by process %s", ErrLocked, pid)
		}
	}
	return l, err
}

// leftover is how long a lock is waited for whose holder is dead: a program that
// it was starting has, until it is itself, a copy of the lock.
const leftover = 200 * time.Millisecond

// TryLockPatiently is TryLock that waits a moment for the lock of a process that
// is dead.
func TryLockPatiently(path string) (*FileLock, error) {
	for end := time.Now().Add(leftover); ; time.Sleep(5 * time.Millisecond) {
		l, err := TryLock(path)
		if !errors.Is(err, ErrLocked) || !dead(holder(path)) || time.Now().After(end) {
			return l, err
		}
	}
}

// dead reports whether there is no process of this id, though one was named.
func dead(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 0 {
		return false
	}
	_, err = startTime(n)
	return err != nil
}

// Lock waits for the exclusive lock on path until ctx ends.
func Lock(ctx context.Context, path string) (*FileLock, error) {
	return await(ctx, func() (*FileLock, error) { return lock(path, unix.LOCK_EX|unix.LOCK_NB) })
}

func await(ctx context.Context, try func() (*FileLock, error)) (*FileLock, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		l, err := try()
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func lock(path string, how int) (*FileLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), how); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, ErrLocked
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		// Somebody may have removed the file between the open and the lock:
		// then this lock keeps nobody out.
		if same(f, path) {
			if how&unix.LOCK_EX != 0 {
				_ = f.Truncate(0)
				_, _ = f.WriteAt([]byte(fmt.Sprint(os.Getpid())), 0)
			}
			return &FileLock{f}, nil
		}
		f.Close()
	}
}

func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

func holder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 20 {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Unlock gives the lock up. It may be called twice.
func (l *FileLock) Unlock() error {
	if l == nil {
		return nil
	}
	// Closing isn't enough: a process that is being started has a copy of the
	// file until it runs its program.
	_ = unix.Flock(int(l.f.Fd()), unix.LOCK_UN)
	_ = unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
	return l.f.Close()
}
