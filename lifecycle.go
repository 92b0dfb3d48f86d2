package bandsox

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// DefaultGrace is how long programs get between SIGTERM and SIGKILL.
const DefaultGrace = 10 * time.Second

// change runs f alone among the sandbox's state changes.
func (sb *Sandbox) change(op string, f func() error) error {
	sb.op.Lock()
	defer sb.op.Unlock()
	return fail(op, sb.id, f())
}

// Start boots a stopped or failed sandbox again, with the disk it has.
func (sb *Sandbox) Start(ctx context.Context) error {
	return sb.change("start", func() (err error) {
		if sb.held() {
			return sb.refuse(StateRunning)
		}
		if err := sb.reload(ctx); err != nil {
			return err
		}
		sb.mu.Lock()
		state, digest := sb.info.Status, sb.info.Digest
		sb.mu.Unlock()
		if state != StateStopped && state != StateFailed {
			return sb.refuse(state)
		}
		if err := os.MkdirAll(sb.m.store.Machine(sb.id), 0o700); err != nil {
			return err
		}
		var undo stack
		undo.push("state", func(ctx context.Context) error { return sb.ended(ctx, err) })
		times := newPhases()
		if err = sb.boot(ctx, digest, times, &undo); err != nil {
			undo.run(sb.m)
			return err
		}
		return sb.save(ctx, func(i *Info) { i.Phases = times.list })
	})
}

// Stop ends the sandbox's programs (SIGTERM, then SIGKILL after grace), writes
// its disk out and powers it off. The disk is kept. A negative grace takes
// DefaultGrace.
func (sb *Sandbox) Stop(ctx context.Context, grace time.Duration) error {
	if grace < 0 {
		grace = DefaultGrace
	}
	return sb.change("stop", func() error {
		if err := sb.attach(ctx); err != nil {
			return err
		}
		if sb.state() == StatePaused {
			if err := sb.resume(ctx); err != nil {
				return err
			}
		}
		client, err := sb.connect(ctx)
		if err != nil {
			sb.m.log.Warn("the agent does not answer: stopping its machine without it", "sandbox", sb.id, "err", err)
		}
		machine, _, lock := sb.letGo()
		if machine == nil {
			return nil // it ended meanwhile, and its watcher wrote that down
		}
		defer lock.Unlock()
		if client != nil {
			stopCtx, cancel := context.WithTimeout(ctx, grace+10*time.Second)
			if err := client.Shutdown(stopCtx, grace); err == nil {
				select {
				case <-machine.Done():
				case <-stopCtx.Done():
				}
			}
			cancel()
			_ = client.Close()
		}
		if err := machine.Kill(); err != nil {
			return err
		}
		return sb.ended(ctx, nil)
	})
}

// Kill ends the sandbox's machine at once, as a power cut would. What its
// programs had flushed is on the disk.
func (sb *Sandbox) Kill(ctx context.Context) error {
	return sb.change("kill", func() error {
		if err := sb.attach(ctx); err != nil {
			return err
		}
		if err := sb.killMachine(); err != nil {
			return err
		}
		return sb.ended(ctx, nil)
	})
}

func (sb *Sandbox) killMachine() error {
	machine, client, lock := sb.letGo()
	defer lock.Unlock()
	if client != nil {
		_ = client.Close()
	}
	if machine == nil {
		return nil
	}
	return machine.Kill()
}

// Restart stops the sandbox and starts it again.
func (sb *Sandbox) Restart(ctx context.Context, grace time.Duration) error {
	if err := sb.Stop(ctx, grace); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return sb.Start(ctx)
}

// Pause stops the sandbox's processors; Resume lets them go on. Pausing what
// is paused is no error, nor is resuming what runs.
func (sb *Sandbox) Pause(ctx context.Context) error {
	return sb.change("pause", func() error {
		machine, err := sb.inHand(ctx)
		if err != nil {
			return err
		}
		if err := machine.Pause(ctx); err != nil {
			return err
		}
		return sb.save(ctx, func(i *Info) { i.Status = StatePaused })
	})
}

// Resume undoes Pause.
func (sb *Sandbox) Resume(ctx context.Context) error {
	return sb.change("resume", func() error { return sb.resume(ctx) })
}

func (sb *Sandbox) resume(ctx context.Context) error {
	machine, err := sb.inHand(ctx)
	if err != nil {
		return err
	}
	if err := machine.Resume(ctx); err != nil {
		return err
	}
	sb.mu.Lock()
	sb.halted = nil
	sb.mu.Unlock()
	return sb.save(ctx, func(i *Info) { i.Status, i.Reason = StateRunning, "" })
}

// Delete throws the sandbox away, running or not. Deleting it twice is no error.
func (sb *Sandbox) Delete(ctx context.Context) error {
	return sb.change("delete", func() error {
		if err := sb.reload(ctx); classify(err) == CodeNotFound && err != nil {
			return nil
		} else if err != nil {
			return err
		}
		// On a full disk this can't be written down; removing makes room.
		if err := sb.save(ctx, func(i *Info) { i.Status = stateDeleted }); err != nil && classify(err) != CodeExhausted {
			return err
		}
		step("deleted")
		if err := sb.reap(ctx); err != nil {
			return err
		}
		return sb.m.remove(ctx, sb.id)
	})
}

// reap ends the machine, whoever had it in hand.
func (sb *Sandbox) reap(ctx context.Context) error {
	if sb.held() {
		return sb.killMachine()
	}
	sb.mu.Lock()
	info := sb.info
	sb.mu.Unlock()
	machine, err := sb.m.adopt(ctx, info)
	if err != nil {
		if classify(err) == CodeNotFound {
			return nil
		}
		return err
	}
	return machine.Kill()
}

// Console returns what the guest's kernel and agent have printed, the newest
// part of it.
func (sb *Sandbox) Console(ctx context.Context) (io.ReadCloser, error) {
	machine := sb.current()
	if machine == nil {
		info, err := sb.Info(ctx)
		if err != nil {
			return nil, err
		}
		adopted, err := sb.m.adopt(ctx, info)
		if err == nil {
			defer adopted.Release()
			machine = adopted
		}
	}
	if machine == nil { // what the machine wrote down before it ended
		f, err := os.Open(filepath.Join(sb.m.store.Machine(sb.id), "console.log"))
		if errors.Is(err, os.ErrNotExist) {
			return io.NopCloser(eof{}), nil
		}
		return f, fail("console", sb.id, err)
	}
	r, err := machine.Console(ctx)
	return r, fail("console", sb.id, err)
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// Stats are live figures of a running sandbox.
type Stats = wire.Stats

// Stats returns live figures of a running sandbox.
func (sb *Sandbox) Stats(ctx context.Context) (Stats, error) {
	client, err := sb.running(ctx)
	if err != nil {
		return Stats{}, fail("stats", sb.id, err)
	}
	s, err := client.Stats(ctx)
	return s, fail("stats", sb.id, err)
}

// Rename gives the sandbox another name; "" takes its name away. The guest's
// hostname changes with its next start.
func (sb *Sandbox) Rename(ctx context.Context, name string) error {
	return sb.change("rename", func() error {
		if name != "" && !store.ValidName(name) {
			return wire.Errorf(CodeInvalid, "name %q: letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit", name)
		}
		if err := sb.reload(ctx); err != nil {
			return err
		}
		return sb.save(ctx, func(i *Info) { i.Name = name })
	})
}
