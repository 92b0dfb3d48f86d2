package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// ensureServer returns the socket of the server of the state directory. If none
// answers there it starts one, which ends by itself when it isn't needed.
func (a *app) ensureServer(ctx context.Context) (socket string, started bool, err error) {
	dir, err := a.stateDir()
	if err != nil {
		return "", false, err
	}
	socket = dir.Socket()
	if answers(ctx, socket) {
		return socket, false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience,
		&bandsox.Error{Code: bandsox.CodeTimeout, Err: fmt.Errorf("no server answers on %s after %v", socket, startPatience), Hint: "see " + dir.ServerLog()})
	defer cancel()
	if started, err = a.startServer(ctx, dir); err != nil && context.Cause(ctx) != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	return socket, started, err
}

// answers reports whether a server answers on a socket.
func answers(ctx context.Context, socket string) bool {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	c, err := client.Dial(ctx, "unix://"+socket, client.Options{})
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// startServer starts a server, alone among those who would.
func (a *app) startServer(ctx context.Context, dir store.Layout) (started bool, err error) {
	if err := os.MkdirAll(dir.Dir(), 0o755); err != nil {
		return false, &bandsox.Error{Code: bandsox.CodeDenied, Err: fmt.Errorf("opening the state directory: %w", err),
			Hint: "name a directory you may write with --storage or BANDSOX_STORAGE"}
	}
	lock, err := store.Lock(ctx, dir.ServerLock())
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	if answers(ctx, dir.Socket()) {
		return false, nil
	}
	log, err := os.OpenFile(dir.ServerLog(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return false, err
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	died, err := a.spawn(dir, log)
	if err != nil {
		return false, err
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-died:
			// Someone else's may have come first, and not answer yet.
			if answers(ctx, dir.Socket()) {
				return false, nil
			}
			return false, startError(log, before)
		case <-time.After(wait):
			if answers(ctx, dir.Socket()) {
				return true, nil
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
	args := append(a.managerFlags(), "--storage", dir.Dir(), "serve", "--socket-only", "--idle-exit", patience, "--log-file", dir.ServerLog())
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

// managerFlags are the global flags that shape a manager.
func (a *app) managerFlags() (args []string) {
	for _, f := range []struct{ name, value string }{
		{"--driver", a.driver}, {"--accel", a.accel}, {"--agent", absolute(a.agent)}, {"--mem-overcommit", a.memory},
	} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	for _, f := range []struct {
		name   string
		values []string
	}{{"--registry-mirror", a.mirrors}, {"--insecure-registry", a.insecure}, {"--registry-ca", absoluteAll(a.caFiles)}} {
		for _, v := range f.values {
			args = append(args, f.name, v)
		}
	}
	if a.verbose {
		args = append(args, "--verbose")
	}
	return args
}

// stopServer ends the server of the state directory, and returns when another
// can be started.
func (a *app) stopServer(ctx context.Context) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	if !answers(ctx, dir.Socket()) {
		fmt.Println("No server runs.")
		return nil
	}
	c, err := client.Dial(ctx, "unix://"+dir.Socket(), client.Options{})
	if err != nil {
		return err
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
	fmt.Println("Server stopped.")
	return nil
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

// absolute is path as it is found from everywhere.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func absoluteAll(paths []string) (list []string) {
	for _, p := range paths {
		list = append(list, absolute(p))
	}
	return list
}
