package bandsox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// current is the machine in hand, or nil.
func (sb *Sandbox) current() vm.Machine {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.machine
}

func (sb *Sandbox) held() bool { return sb.current() != nil }

// haltedWhy is why the machine waits, or nil.
func (sb *Sandbox) haltedWhy() error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.halted
}

// inHand attaches to the machine and returns it.
func (sb *Sandbox) inHand(ctx context.Context) (vm.Machine, error) {
	if err := sb.attach(ctx); err != nil {
		return nil, err
	}
	if machine := sb.current(); machine != nil {
		return machine, nil
	}
	return nil, wire.Errorf(CodeUnavailable, "the machine of sandbox %s has just ended", sb.id)
}

// attach takes the machine of a running or paused sandbox in hand: this
// process alone talks to it then.
func (sb *Sandbox) attach(ctx context.Context) error {
	if sb.held() {
		return nil
	}
	lock, err := sb.tryLock()
	if err != nil {
		return err
	}
	info := sb.known()
	machine, err := sb.m.adopt(ctx, info)
	if err != nil {
		lock.Unlock()
		return err
	}
	// What was killed between the two halves of a pause or resume left a
	// machine that does other than its record says.
	if info.Status == StatePaused {
		err = machine.Pause(ctx)
	} else {
		err = machine.Resume(ctx)
	}
	if err != nil {
		sb.m.log.Warn("making a machine do what its record says", "sandbox", sb.id, "err", err)
	}
	sb.hold(machine, nil, lock, true)
	return nil
}

// tryLock takes the lock of whoever talks to the sandbox's agent.
func (sb *Sandbox) tryLock() (*store.FileLock, error) {
	lock, err := store.TryLockPatiently(sb.m.store.SandboxLock(sb.id))
	if errors.Is(err, store.ErrLocked) {
		return nil, wire.Errorf(CodeConflict, "sandbox %s is in use: %w", sb.id, err).
			WithHint("one command at a time talks to a sandbox, for now: wait for the other to end")
	}
	return lock, err
}

// hold takes a machine in hand and watches it, to write down how it and its
// programs end. Found: it ran before.
func (sb *Sandbox) hold(machine vm.Machine, client *agent.Client, lock *store.FileLock, found bool) {
	ctx, leave := context.WithCancel(context.Background())
	sb.mu.Lock()
	sb.machine, sb.client, sb.lock, sb.leave = machine, client, lock, leave
	sb.mu.Unlock()
	through := sb.programs.begin()
	sb.m.wg.Go(func() { defer through(); sb.witness(ctx, machine, found) })
	sb.m.wg.Go(func() {
		for {
			select {
			case <-ctx.Done(): // released, or ended by a method that writes it down itself
				return
			case why := <-machine.Halted():
				sb.machineHalted(machine, why)
			case <-machine.Done():
				sb.machineDone(machine)
				return
			}
		}
	})
}

// machineDone writes down how a machine ended by itself.
func (sb *Sandbox) machineDone(machine vm.Machine) {
	_ = sb.lockOp(context.Background())
	defer sb.unlockOp()
	if sb.current() != machine {
		return
	}
	_, client, lock := sb.letGo()
	defer lock.Unlock()
	if client != nil {
		drain(client)
		_ = client.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := sb.ended(ctx, machine.Err()); err != nil && classify(err) != CodeNotFound {
		sb.m.log.Error("recording the end of a machine", "sandbox", sb.id, "err", err)
	}
}

// machineHalted lets those that wait for the guest know that it can't go on.
func (sb *Sandbox) machineHalted(machine vm.Machine, why error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// A resume has the record, too, so that what is over by now isn't written down
	// behind it.
	sb.rec.Lock()
	defer sb.rec.Unlock()
	if waits, err := machine.Waits(ctx); err == nil && !waits {
		return
	}
	sb.mu.Lock()
	client, mine := sb.client, sb.machine == machine
	if mine {
		sb.client, sb.halted = nil, why
	}
	sb.mu.Unlock()
	if !mine {
		return
	}
	sb.m.log.Info("a machine was halted", "sandbox", sb.id, "why", why)
	// The disk being full, this may fail: then memory alone knows, for now.
	if err := sb.recordNow(ctx, halt(why), true); err != nil {
		sb.m.log.Info("recording that a machine was halted", "sandbox", sb.id, "err", err)
	}
	if client != nil { // those that wait learn of it when all others can
		_ = client.Close()
	}
}

// halt is what a halted machine makes of its sandbox.
func halt(why error) func(*Info) {
	return func(i *Info) { i.Status, i.Reason, i.AutoResume = StatePaused, why.Error(), false }
}

func (sb *Sandbox) ended(ctx context.Context, why error) error {
	if !sb.held() {
		sb.programs.lastWords()
	}
	if h := sb.known().Machine; h != nil {
		defer sb.m.unshare(h.Memory)
	}
	return sb.save(ctx, func(i *Info) {
		i.Status, i.Reason, i.PID, i.Machine, i.AgentReady, i.AutoResume, i.Doing = StateStopped, "", 0, nil, false, false, ""
		if why != nil {
			i.Status, i.Reason = StateFailed, why.Error()
		}
	})
}

// letGo takes the machine and all that goes with it out of the sandbox's hands.
func (sb *Sandbox) letGo() (vm.Machine, *agent.Client, *store.FileLock) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	machine, client, lock := sb.machine, sb.client, sb.lock
	if sb.leave != nil {
		sb.leave()
	}
	sb.machine, sb.client, sb.lock, sb.leave, sb.halted = nil, nil, nil, nil, nil
	return machine, client, lock
}

// release leaves the machine running and forgets it.
func (sb *Sandbox) release() error {
	var errs []error
	if sb.held() && sb.known().IdleTimeout > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		last := sb.lastUse(time.Now()).UTC()
		errs = append(errs, sb.save(ctx, func(i *Info) { i.LastUsed = last }))
	}
	machine, client, lock := sb.letGo()
	if client != nil {
		errs = append(errs, client.Close())
	}
	if machine != nil {
		errs = append(errs, machine.Release())
	}
	return errors.Join(append(errs, lock.Unlock())...)
}

// brokeDown says why the agent of machine fell silent, where that is known.
func (sb *Sandbox) brokeDown(machine vm.Machine, err error) error {
	if why := sb.haltedWhy(); why != nil {
		return why
	}
	if machine == nil {
		return err
	}
	// The end of a process is known a moment after that of its sockets.
	select {
	case <-machine.Done():
	case <-time.After(500 * time.Millisecond):
		return err
	}
	why := "the guest powered off"
	if merr := machine.Err(); merr != nil {
		why = merr.Error()
	}
	e := wire.Errorf(CodeUnavailable, "the sandbox ended before the program did: %s", why)
	if sb.known().AutoRemove {
		return e.WithHint("keep the sandbox, with --keep, to read its console: bandsox logs")
	}
	return e.WithHint("bandsox logs %s", sb.id)
}

// consoleTail is the end of what the guest printed, at most n bytes of it.
func consoleTail(machine vm.Machine, n int64) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := machine.Console(ctx)
	if err != nil {
		return ""
	}
	defer r.Close()
	b, _ := io.ReadAll(io.LimitReader(r, 4<<20))
	if over := int64(len(b)) - n; over > 0 {
		b = b[over:]
		if _, rest, ok := bytes.Cut(b, []byte("\n")); ok { // from the beginning of a line
			b = rest
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
}
