package bandsox

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// DefaultGrace is how long programs get between SIGTERM and SIGKILL.
const DefaultGrace = 10 * time.Second

// perform does op, which is f, alone among the sandbox's state changes, if the
// table allows it.
func (sb *Sandbox) perform(ctx context.Context, op operation, f func() error) error {
	return fail(string(op), sb.id, sb.performing(ctx, op, f))
}

func (sb *Sandbox) performing(ctx context.Context, op operation, f func() error) error {
	if sb.state() == StateCreating && !sb.m.cfg.Shared {
		return sb.refuse(op, StateCreating) // its creator has the lock for long
	}
	if err := sb.lockOp(ctx); err != nil {
		return err
	}
	defer sb.unlockOp()
	if err := sb.reload(ctx); err != nil {
		return err
	}
	if done, err := sb.permit(op); done || err != nil {
		return err
	}
	if op != opUpdate {
		sb.closeView()
	}
	return f()
}

// Start boots a stopped or failed sandbox again, with the disk it has.
func (sb *Sandbox) Start(ctx context.Context) error {
	return sb.perform(ctx, opStart, func() error { return sb.start(ctx, opStart) })
}

func (sb *Sandbox) start(ctx context.Context, op operation) (err error) {
	if info := sb.known(); info.Status != StateRunning {
		if err := sb.m.admit(ctx, sb.id, info.VCPU, info.MemMiB); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(sb.m.store.Machine(sb.id), 0o700); err != nil {
		return err
	}
	lock, err := sb.tryLock()
	if err != nil {
		return err
	}
	var undo stack
	undo.push("lock", func(context.Context) error { return lock.Unlock() })
	defer func() {
		if err != nil {
			undo.run(sb.m)
		}
	}()
	// Another process may have started it just before the lock was ours.
	if err := sb.reload(ctx); err != nil {
		return err
	}
	if _, err := sb.permit(op); err != nil {
		return err
	}
	undo.push("state", func(ctx context.Context) error { return sb.ended(ctx, err) })
	if err := sb.save(ctx, func(i *Info) { i.Doing = string(opStart) }); err != nil {
		return err
	}
	step("start")
	times := newPhases()
	if err := sb.boot(ctx, lock, sb.known().Digest, times, &undo); err != nil {
		return err
	}
	sb.programs.clear()
	if err := sb.m.store.ForgetProcesses(ctx, sb.id); err != nil {
		sb.m.log.Info("forgetting the programs of another boot", "sandbox", sb.id, "err", err)
	}
	return sb.save(ctx, func(i *Info) { i.Phases = times.list })
}

// Stop ends the sandbox's programs (SIGTERM, then SIGKILL after grace), writes
// its disk out and powers it off. The disk is kept. A negative grace takes
// DefaultGrace.
func (sb *Sandbox) Stop(ctx context.Context, grace time.Duration) error {
	return sb.perform(ctx, opStop, func() error { return sb.stop(ctx, grace) })
}

func (sb *Sandbox) stop(ctx context.Context, grace time.Duration) error {
	if grace < 0 {
		grace = DefaultGrace
	}
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
	sb.mark(ctx, opStop)
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
				drain(client)
			case <-stopCtx.Done():
			}
		}
		cancel()
		_ = client.Close()
	}
	if err := machine.Kill(); err != nil {
		return err
	}
	step("stop-machine")
	return sb.ended(ctx, nil)
}

// mark writes down what is under way, so that one who finds it half done knows
// how to end it. It may fail: then the find is called a failure, no more.
func (sb *Sandbox) mark(ctx context.Context, op operation) {
	if err := sb.save(ctx, func(i *Info) { i.Doing = string(op) }); err != nil {
		sb.m.log.Info("noting what is under way", "sandbox", sb.id, "op", op, "err", err)
	}
	step(string(op))
}

// Kill ends the sandbox's machine at once, as a power cut would. What its
// programs had flushed is on the disk.
func (sb *Sandbox) Kill(ctx context.Context) error {
	return sb.perform(ctx, opKill, func() error {
		if err := sb.attach(ctx); err != nil {
			return err
		}
		sb.mark(ctx, opKill)
		if err := sb.killMachine(); err != nil {
			return err
		}
		step("kill-machine")
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

// Restart stops the sandbox, if it runs, and starts it again.
func (sb *Sandbox) Restart(ctx context.Context, grace time.Duration) error {
	return sb.perform(ctx, opRestart, func() error {
		if s := sb.state(); s == StateRunning || s == StatePaused {
			if err := sb.stop(ctx, grace); err != nil {
				return err
			}
		}
		return sb.start(ctx, opStart)
	})
}

// Pause stops the sandbox's processors; Resume lets them go on. Pausing what
// is paused is no error, nor is resuming what runs.
func (sb *Sandbox) Pause(ctx context.Context) error {
	return sb.perform(ctx, opPause, func() error { return sb.pause(ctx, "", false) })
}

func (sb *Sandbox) pause(ctx context.Context, why string, autoResume bool) error {
	machine, err := sb.inHand(ctx)
	if err != nil {
		return err
	}
	if err := machine.Pause(ctx); err != nil {
		return err
	}
	step("pause")
	return sb.save(ctx, func(i *Info) { i.Status, i.Reason, i.AutoResume = StatePaused, why, autoResume })
}

// Resume undoes Pause.
func (sb *Sandbox) Resume(ctx context.Context) error {
	return sb.perform(ctx, opResume, func() error { return sb.resume(ctx) })
}

func (sb *Sandbox) resume(ctx context.Context) error {
	machine, err := sb.inHand(ctx)
	if err != nil {
		return err
	}
	sb.rec.Lock() // if it halts again that comes after this
	defer sb.rec.Unlock()
	if err := machine.Resume(ctx); err != nil {
		return err
	}
	step("resume")
	sb.mu.Lock()
	was := sb.halted
	sb.halted, sb.used = nil, time.Now()
	sb.mu.Unlock()
	err = sb.recordNow(ctx, func(i *Info) {
		i.Status, i.Reason, i.AutoResume = StateRunning, "", false
		i.usedNow()
	}, true)
	if was != nil && err == nil {
		sb.m.store.KeepReserve() // that it was halted may have taken it
	}
	return err
}

// Delete throws the sandbox away, running or not. Deleting it twice is no error.
func (sb *Sandbox) Delete(ctx context.Context) error {
	return sb.perform(ctx, opDelete, func() error { return sb.delete(ctx) })
}

func (sb *Sandbox) delete(ctx context.Context) error {
	before := sb.known()
	sb.mu.Lock()
	sb.owner = sb.m.store.Self() // from now on it is the remover's, whoever made it
	sb.mu.Unlock()
	// On a full disk this can't be written down; removing makes room. And a
	// record that is gone may have left a removal that failed half way.
	err := sb.save(ctx, func(i *Info) { i.Status = StateDeleted })
	if code := classify(err); err != nil && code != CodeExhausted && code != CodeNotFound {
		return err
	}
	step("deleted")
	if err := sb.reap(ctx, before); err != nil {
		return err
	}
	step("deleted-machine")
	if before.Machine != nil {
		defer sb.m.unshare(before.Machine.Memory)
	}
	return sb.m.remove(ctx, sb.id)
}

// reap ends the machine, whoever had it in hand.
func (sb *Sandbox) reap(ctx context.Context, info Info) error {
	if sb.held() {
		return sb.killMachine()
	}
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
