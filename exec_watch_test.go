package bandsox

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// TestSilentGuest runs programs in a guest that stops answering: the wait for
// them ends, by their own timeout or by our patience, and a pause is no silence.
func TestSilentGuest(t *testing.T) {
	t.Parallel() // it waits
	m := newManager(t, t.TempDir())
	m.patience = patience{late: 300 * time.Millisecond, every: 50 * time.Millisecond, answer: 500 * time.Millisecond}
	sb := create(t, m, CreateOptions{})
	ctx := t.Context()
	pid := sb.current().Handle().PID
	start := func(timeout time.Duration) *Cmd {
		c := sb.Shell("sleep 60")
		c.Timeout = timeout
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		return c
	}

	timed, endless := start(100*time.Millisecond), start(0)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	if err := timed.Wait(ctx); !errors.As(err, &exit) || !exit.Timeout {
		t.Errorf("a program whose time is over: %v", err)
	}
	if err := endless.Wait(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a program without end: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	paused := start(0)
	if err := sb.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * m.patience.answer)
	if err := sb.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := paused.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := paused.Wait(ctx); !errors.As(err, &exit) || exit.Signal != syscall.SIGKILL {
		t.Errorf("a program of a paused sandbox: %v", err)
	}
}
