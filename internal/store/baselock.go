package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// LockBase waits, until ctx ends, for the lock of whoever builds, removes or
// takes into use the base of this digest.
func (l Layout) LockBase(ctx context.Context, digest string) (*FileLock, error) {
	return await(ctx, func() (*FileLock, error) { return l.TryLockBase(digest) })
}

// TryLockBase is LockBase that returns ErrLocked at once when another holds it.
//
// The lock is one byte of a file that all bases share, so that none is left
// beside a base that is gone, and a prune on a full disk has no file to make.
// It belongs to the open file, like flock's: it keeps goroutines of one process
// apart as well, and the kernel gives it up when its holder dies.
func (l Layout) TryLockBase(digest string) (*FileLock, error) {
	at, err := strconv.ParseInt(hex(digest)[:15], 16, 64)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.BasesLock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
	if err == nil {
		return &FileLock{f}, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, ErrLocked
	}
	return nil, fmt.Errorf("locking a base: %w", err)
}
