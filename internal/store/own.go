package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// patience is how long a lock that is held is tried again: a program that this
// or another process starts has, until it is itself, a copy of a lock that was
// given up already.
const patience = 300 * time.Millisecond

// own takes the lock of the whole directory. The kernel gives it up when its
// holder dies, so a kill -9 frees the directory at once.
func (l Layout) own(ctx context.Context, shared bool) (*FileLock, error) {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	for end := time.Now().Add(patience); ; {
		lk, err := lock(l.Lock(), how|unix.LOCK_NB)
		if !errors.Is(err, ErrLocked) || time.Now().After(end) {
			return lk, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ownedError says who has the directory open. Each of them has a scratch
// directory that is named after it.
func (l Layout) ownedError() error {
	var who, pids []string
	entries, _ := os.ReadDir(l.ScratchDirs())
	for _, e := range entries {
		o, ok := parseOwner(e.Name())
		if !ok || !o.Alive() {
			continue
		}
		s := fmt.Sprintf("process %d", o.PID)
		if what := commandOf(o.PID); what != "" {
			s += " (" + what + ")"
		}
		who, pids = append(who, s), append(pids, fmt.Sprint(o.PID))
	}
	if len(who) == 0 { // between taking the lock and making its directory
		return wire.Errorf(wire.Conflict, "the state directory %s is in use by another process", l).WithHint("try again")
	}
	busy := wire.Errorf(wire.Conflict, "the state directory %s is in use by %s", l, strings.Join(who, ", "))
	if len(who) == 1 && strings.Contains(who[0], "bandsox serve") {
		return busy.WithHint("end it (bandsox serve --stop), or name another directory with --storage or BANDSOX_STORAGE")
	}
	return busy.WithHint("end it (kill %s), or name another directory with --storage or BANDSOX_STORAGE", strings.Join(pids, " "))
}

// commandOf is how a process was called, as far as it is worth reading.
func commandOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	s := strings.ToValidUTF8(string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '})), "?")
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// Owned reports whether anyone has the directory open.
func Owned(l Layout) bool {
	lk, err := lock(l.Lock(), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return true
	}
	_ = lk.Unlock()
	return false
}
