package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/store"
)

const (
	// startPatience is how long a server may take until it answers: it looks
	// after every machine first.
	startPatience = 30 * time.Second
	// askPatience is how long one that listens may take to answer.
	askPatience = 5 * time.Second
	// idleExit is when a server that was started for a command ends.
	idleExit = "10m"
)

// executable is this program.
var executable = os.Executable

// ensureServer finds the server of the state directory. If none answers there it
// starts one, which ends by itself when it isn't needed.
func (a *app) ensureServer(ctx context.Context) (c *client.Client, started bool, err error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, false, err
	}
	if c := findServer(ctx, dir); c != nil {
		return c, false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience,
		&bandsox.Error{Code: bandsox.CodeTimeout, Err: fmt.Errorf("no server answers on %s after %v", dir.Socket(), startPatience), Hint: "see " + dir.ServerLog()})
	defer cancel()
	if c, started, err = a.startServer(ctx, dir); err != nil && context.Cause(ctx) != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	return c, started, err
}

// findServer returns the server that answers on the socket of a state directory; nil:
// none does.
func findServer(ctx context.Context, dir store.Layout) *client.Client {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	c, err := client.Dial(ctx, "unix://"+dir.Socket(), client.Options{})
	if err != nil {
		return nil
	}
	return c
}

// startServer starts a server, alone among those who would.
func (a *app) startServer(ctx context.Context, dir store.Layout) (c *client.Client, started bool, err error) {
	if err := os.MkdirAll(dir.Dir(), 0o755); err != nil {
		return nil, false, &bandsox.Error{Code: bandsox.CodeDenied, Err: fmt.Errorf("opening the state directory: %w", err),
			Hint: "name a directory you may write with --storage or BANDSOX_STORAGE"}
	}
	lock, err := store.Lock(ctx, dir.ServerLock())
	if err != nil {
		return nil, false, err
	}
	defer lock.Unlock()
	if c := findServer(ctx, dir); c != nil {
		return c, false, nil
	}
	log, err := os.OpenFile(dir.ServerLog(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, false, err
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, false, err
	}
	died, err := a.spawn(dir, log)
	if err != nil {
		return nil, false, err
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return nil, true, ctx.Err()
		case <-died:
			// Someone else's may have come first, and not answer yet.
			if c := findServer(ctx, dir); c != nil {
				return c, false, nil
			}
			return nil, false, startError(log, before)
		case <-time.After(wait):
			if c := findServer(ctx, dir); c != nil {
				return c, true, nil
			}
		}
	}
}

// spawn starts the server's process, on its own: in a session that no terminal
// ends. The channel is closed when it has ended.
func (a *app) spawn(dir store.Layout, log *os.File) (died <-chan struct{}, err error) {
	self, err := executable()
	if err != nil {
		return nil, err
	}
	patience := idleExit
	if a.keepLeftovers {
		patience = "1s" // one that has put nothing right is for cleanup alone
	}
	args := a.managerFlags()
	if a.verbose {
		args = append(args, "--verbose")
	}
	args = append(args, "--storage", dir.Dir(), "serve", "--socket-only", "--idle-exit", patience, "--log-file", dir.ServerLog())
	if a.keepLeftovers {
		args = append(args, "--keep-leftovers")
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, &bandsox.Error{Code: bandsox.CodeUnavailable, Err: fmt.Errorf("starting a server: %w", err)}
	}
	c := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(c)
	}()
	return c, nil
}

// stopServer ends the server of the state directory, and returns when another
// can be started.
func (a *app) stopServer(ctx context.Context, asJSON bool) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	c := findServer(ctx, dir)
	if c == nil {
		return outcome{Name: dir.Socket(), Done: "stopped", Already: true}.say(asJSON, "No server runs.")
	}
	defer c.Close()
	if err := c.Shutdown(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for store.Owned(dir) { // its socket goes first
		select {
		case <-ctx.Done():
			return &bandsox.Error{Code: bandsox.CodeTimeout, Err: fmt.Errorf("the server has not ended after %v", startPatience), Hint: "see " + dir.ServerLog()}
		case <-time.After(10 * time.Millisecond):
		}
	}
	return outcome{Name: dir.Socket(), Done: "stopped"}.say(asJSON, "Server stopped.")
}

// startError is why a server ended before it answered: what it said last.
func startError(log *os.File, from int64) error {
	b, _ := io.ReadAll(io.LimitReader(io.NewSectionReader(log, from, 1<<20), 1<<20))
	e := &bandsox.Error{Code: bandsox.CodeUnavailable, Hint: "see " + log.Name()}
	if _, last, ok := bytes.Cut(b, []byte("error: ")); ok { // as report prints it
		text, hint, _ := strings.Cut(string(last), "\nhint: ")
		e.Err = fmt.Errorf("starting a server: %s", strings.TrimSpace(text))
		if hint = strings.TrimSpace(hint); hint != "" {
			e.Hint = hint
		}
		return e
	}
	const most = 600
	tail := strings.TrimSpace(strings.ToValidUTF8(string(b[max(0, len(b)-most):]), "?"))
	e.Err = fmt.Errorf("starting a server: it ended at once; its last words were:\n%s", tail)
	return e
}
