package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// localTTY is our terminal while it is lent to a program in a sandbox.
type localTTY struct {
	fd    int
	out   int
	old   *term.State // nil: not in raw mode
	sizes chan os.Signal

	mu       sync.Mutex // a second Ctrl-C restores while others connect
	restored bool
}

// openTTY readies the terminal; it changes nothing yet.
func openTTY(interactive bool) (*localTTY, error) {
	t := &localTTY{fd: int(os.Stdin.Fd()), out: int(os.Stdout.Fd())}
	if interactive && !term.IsTerminal(t.fd) {
		return nil, usageError("--tty: standard input is not a terminal; leave -t out to pipe into the program")
	}
	return t, nil
}

// connect gives cmd a terminal of our size and, if cmd reads our keys, has ours
// pass every one of them on.
func (t *localTTY) connect(cmd *client.Cmd) {
	size := t.size()
	cmd.TTY = &size
	if v, ok := os.LookupEnv("TERM"); ok {
		cmd.Env = append(cmd.Env, "TERM="+v)
	}
	t.lend(cmd.Stdin != nil, cmd.Resize)
}

func (t *localTTY) isTerminal() bool { return term.IsTerminal(t.fd) }

// lend has resize told our size whenever it changes and, if keys is set, every
// key reach the program as it is.
func (t *localTTY) lend(keys bool, resize func(bandsox.Size) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.restored {
		return
	}
	if keys {
		if old, err := term.MakeRaw(t.fd); err == nil {
			t.old = old
		}
	}
	t.sizes = make(chan os.Signal, 1)
	signal.Notify(t.sizes, syscall.SIGWINCH)
	go func() {
		for range t.sizes {
			_ = resize(t.size())
		}
	}()
}

func (t *localTTY) size() bandsox.Size {
	cols, rows, err := term.GetSize(t.out)
	if err != nil || cols <= 0 || rows <= 0 {
		return bandsox.Size{Cols: 80, Rows: 24}
	}
	return bandsox.Size{Cols: uint16(cols), Rows: uint16(rows)}
}

// restore puts the terminal back as it was. It may be called many times.
func (t *localTTY) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.restored {
		return
	}
	t.restored = true
	if t.sizes != nil {
		signal.Stop(t.sizes)
		close(t.sizes)
	}
	if t.old != nil {
		_ = term.Restore(t.fd, t.old)
	}
}
