package store

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLockOfTheDead: a copy of a dead process's lock is waited for, a living
// one's is not taken.
func TestLockOfTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	name := func(pid int) {
		if err := os.WriteFile(path, []byte(strconv.Itoa(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name(os.Getpid())
	if _, err := TryLockPatiently(path); !errors.Is(err, ErrLocked) {
		t.Errorf("of the living: %v", err)
	}
	name(gone.Process.Pid)
	if _, err := TryLockPatiently(path); !errors.Is(err, ErrLocked) {
		t.Errorf("held on to: %v", err)
	}
	fd := int(f.Fd())
	time.AfterFunc(20*time.Millisecond, func() { _ = unix.Flock(fd, unix.LOCK_UN) })
	l, err := TryLockPatiently(path)
	if err != nil {
		t.Fatalf("given up meanwhile: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}
