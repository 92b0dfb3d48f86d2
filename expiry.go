package bandsox

import (
	"context"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// IdleAction is what is done to a sandbox that was idle for its IdleTimeout.
type IdleAction string

// The actions.
const (
	IdlePause  IdleAction = "pause" // its next use resumes it; the default
	IdleStop   IdleAction = "stop"
	IdleDelete IdleAction = "delete"
)

// The shortest times that make sense, and how the timekeeper works.
const (
	minTTL        = time.Second
	minIdle       = time.Second
	maxSleep      = time.Minute // clocks are set, and hosts sleep
	retryAfter    = 30 * time.Second
	actAtOnce     = 8 // of many that are due, so many at a time
	actionTimeout = 2 * time.Minute
)

func checkTTL(ttl time.Duration) error {
	if ttl != 0 && ttl < minTTL {
		return wire.Errorf(CodeInvalid, "time to live %v: must be at least %v, or 0 for no end", ttl, minTTL)
	}
	return nil
}

func checkIdle(timeout time.Duration, action IdleAction) error {
	if timeout != 0 && timeout < minIdle {
		return wire.Errorf(CodeInvalid, "idle timeout %v: must be at least %v, or 0 for none", timeout, minIdle)
	}
	switch action {
	case "", IdlePause, IdleStop, IdleDelete:
		return nil
	}
	return wire.Errorf(CodeInvalid, "idle action %q: must be pause, stop or delete", action)
}

// usedNow writes into a record that its sandbox is in use.
func (i *Info) usedNow() {
	i.LastUsed = time.Time{}
	if i.IdleTimeout > 0 {
		i.LastUsed = time.Now().UTC()
	}
}

// usedAt is when the sandbox of this record may have been used last. Its
// manager writes LastUsed down again whenever IdleTimeout has passed since, so
// that a use is no disk write; one who finds the record after a kill -9 must
// add that much.
func usedAt(i Info) time.Time {
	at, now := i.LastUsed.Add(i.IdleTimeout), time.Now()
	if i.LastUsed.IsZero() || at.After(now) {
		return now
	}
	return at
}

// touch notes a use of the sandbox.
func (sb *Sandbox) touch(ctx context.Context) {
	now := time.Now()
	sb.mu.Lock()
	sb.used = now
	idle, last := sb.info.IdleTimeout, sb.info.LastUsed
	sb.mu.Unlock()
	// One of many short-lived managers is soon gone, and its memory with it.
	if sb.m.cfg.Shared && idle > 0 && now.Sub(last) > idle/10 {
		if err := sb.save(ctx, (*Info).usedNow); err != nil {
			sb.m.log.Info("noting that a sandbox is in use", "sandbox", sb.id, "err", err)
		}
	}
}

// lastUse is when the sandbox was used last: now, while a stream is open.
func (sb *Sandbox) lastUse(now time.Time) time.Time {
	sb.mu.Lock()
	client, used := sb.client, sb.used
	sb.mu.Unlock()
	if client == nil {
		return used
	}
	busy, since := client.Busy()
	switch {
	case busy:
		return now
	case since.After(used):
		return since
	}
	return used
}

// due is when the timekeeper must look at a sandbox again; zero: never.
func (i Info) due() time.Time {
	var at time.Time
	if i.Status != StateCreating && i.Status != StateDeleted {
		at = i.ExpiresAt
	}
	if i.Status == StateRunning && i.IdleTimeout > 0 {
		if idle := i.LastUsed.Add(i.IdleTimeout); at.IsZero() || idle.Before(at) {
			at = idle
		}
	}
	return at
}

// wakeTimekeeper lets it look again: a time may have come nearer.
func (m *Manager) wakeTimekeeper() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// keepTime is the one goroutine that ends sandboxes whose time is over. The
// times are in the records, so it goes on where a killed one stopped.
func (m *Manager) keepTime(stop <-chan struct{}) {
	slots := make(chan struct{}, actAtOnce)
	for {
		now := time.Now()
		sleep := maxSleep
		for _, sb := range m.known() {
			at := sb.nextLook()
			if at.IsZero() {
				continue
			}
			if wait := at.Sub(now.Round(0)); wait > 0 {
				sleep = min(sleep, wait)
				continue
			}
			select {
			case slots <- struct{}{}:
			default:
				continue // whoever is done wakes us
			}
			sb.setActing(true)
			m.wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), actionTimeout)
				defer cancel()
				err := sb.timeOver(ctx)
				sb.doneActing(err)
				<-slots
				m.wakeTimekeeper()
			})
		}
		timer := time.NewTimer(sleep)
		select {
		case <-stop:
			timer.Stop()
			return
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// nextLook is due, for the timekeeper: never, while it is at work on the
// sandbox or another process has it.
func (sb *Sandbox) nextLook() time.Time {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	at := sb.info.due()
	if at.IsZero() || sb.acting || sb.m.cfg.Shared && sb.machine == nil {
		return time.Time{}
	}
	if at.Before(sb.notTill) {
		return sb.notTill
	}
	return at
}

func (sb *Sandbox) setActing(on bool) {
	sb.mu.Lock()
	sb.acting = on
	sb.mu.Unlock()
}

func (sb *Sandbox) doneActing(err error) {
	sb.mu.Lock()
	sb.acting = false
	if err != nil {
		sb.notTill = time.Now().Add(retryAfter)
	}
	sb.mu.Unlock()
	if err != nil && classify(err) != CodeNotFound {
		sb.m.log.Warn("ending a sandbox whose time is over", "sandbox", sb.id, "err", err)
	}
}

// timeOver does what is due to the sandbox, if it still is once it is alone.
func (sb *Sandbox) timeOver(ctx context.Context) error {
	info := sb.known()
	if overdue(info.ExpiresAt) {
		return sb.perform(ctx, opDelete, func() error {
			if !overdue(sb.known().ExpiresAt) {
				return nil
			}
			sb.m.log.Info("deleting a sandbox: its time to live is over", "sandbox", sb.id)
			return sb.delete(ctx)
		})
	}
	op := map[IdleAction]operation{IdleStop: opStop, IdleDelete: opDelete, IdlePause: opPause}[info.IdleAction]
	return sb.perform(ctx, op, func() error {
		info := sb.known()
		last := sb.lastUse(time.Now()).UTC()
		if info.Status != StateRunning || info.IdleTimeout <= 0 {
			return nil
		}
		if !overdue(last.Add(info.IdleTimeout)) {
			return sb.save(ctx, func(i *Info) { i.LastUsed = last })
		}
		sb.m.log.Info("a sandbox is idle", "sandbox", sb.id, "for", info.IdleTimeout, "action", info.IdleAction)
		why := "idle for " + info.IdleTimeout.String()
		switch info.IdleAction {
		case IdleDelete:
			return sb.delete(ctx)
		case IdleStop:
			if err := sb.stop(ctx, -1); err != nil {
				return err
			}
			return sb.save(ctx, func(i *Info) { i.Reason = why })
		}
		return sb.pause(ctx, why, true)
	})
}

func overdue(at time.Time) bool { return !at.IsZero() && !time.Now().Before(at) }
