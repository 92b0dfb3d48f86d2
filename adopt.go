package bandsox

import (
	"context"
	"sync"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
)

// load makes what is there this manager's own: what a killed process left half
// done is finished or undone, and an owner takes the machines in hand.
func (m *Manager) load(ctx context.Context) error {
	rows, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	if !m.cfg.Shared {
		m.remember(rows)
	}
	if m.cfg.KeepLeftovers {
		return nil
	}
	if m.cfg.Shared {
		err = m.undo(ctx, rows)
	} else {
		m.loading = true
		_, err = m.reclaim(ctx, false)
		m.loading = false
	}
	if err != nil {
		m.log.Warn("undoing what a killed process left", "err", err)
	}
	if err := m.settleAll(ctx, rows); err != nil || m.cfg.Shared {
		return err
	}
	_, err = m.sweepOver(ctx, false, false)
	return err
}

func (m *Manager) remember(rows []store.Sandbox) {
	for _, row := range rows {
		info, err := decode(row)
		if err != nil {
			m.log.Error("skipping a damaged record", "sandbox", row.ID, "err", err)
			continue
		}
		m.live[row.ID] = newSandbox(m, info, row.Owner)
	}
}

// settling is how many sandboxes are settled at a time.
const settling = 16

// settleAll settles every sandbox for an owner. Of many that share, each
// settles only what is half done, or overdue.
func (m *Manager) settleAll(ctx context.Context, rows []store.Sandbox) error {
	list := m.known()
	for _, row := range rows {
		if !m.cfg.Shared {
			break
		}
		info, err := decode(row)
		if err != nil || info.Status == StateDeleted || info.Status == StateCreating || overdue(info.ExpiresAt) {
			continue
		}
		idle := info.Status == StateRunning && info.IdleTimeout > 0 && overdue(info.LastUsed.Add(2*info.IdleTimeout))
		if info.Doing == "" && !idle {
			continue
		}
		if sb, err := m.get(ctx, row.ID); err == nil {
			list = append(list, sb)
		}
	}
	if len(list) == 0 {
		return nil
	}
	handles, err := m.driver.Find(ctx, m.store.Sandboxes())
	if err != nil {
		return err
	}
	of := map[string][]vm.Handle{}
	for _, h := range handles {
		of[h.ID] = append(of[h.ID], h)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, settling)
	for _, sb := range list {
		info := sb.known()
		if info.Status == StateDeleted || info.Status == StateCreating {
			continue // it could not be removed
		}
		if info.Machine == nil && info.Doing == "" && len(of[sb.id]) == 0 {
			continue // it is stopped, and true
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := sb.settle(ctx, of[sb.id]); err != nil && classify(err) != CodeConflict {
				m.log.Warn("taking a sandbox over", "sandbox", sb.id, "err", err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// settle makes a sandbox's record and its machine agree, whatever instruction
// its last manager died at. A conflict: another process is at work on it.
func (sb *Sandbox) settle(ctx context.Context, handles []vm.Handle) error {
	if err := sb.lockOp(ctx); err != nil {
		return err
	}
	defer sb.unlockOp()
	if err := sb.settleMachines(ctx, handles); err != nil {
		return err
	}
	if s := sb.state(); s != StateRunning && s != StatePaused {
		return nil
	}
	if sb.m.cfg.Shared && sb.known().IdleTimeout == 0 {
		return nil
	}
	return sb.attach(ctx)
}

func (sb *Sandbox) settleMachines(ctx context.Context, handles []vm.Handle) error {
	lock, err := sb.tryLock()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	info := sb.known()
	runs := info.Status == StateRunning || info.Status == StatePaused
	if runs && info.Doing == string(opKill) {
		runs = false
	}
	alive := false
	var strays []vm.Handle
	for _, h := range handles {
		if runs && info.Machine != nil && h.PID == info.Machine.PID && h.StartTime == info.Machine.StartTime {
			alive = true
		} else {
			strays = append(strays, h)
		}
	}
	if err := sb.m.killAll(ctx, strays); err != nil {
		return err
	}
	switch next := info; {
	case runs && !alive:
		next = machineGone(info)
		return sb.save(ctx, func(i *Info) { *i = next })
	case !runs && (info.Status == StateRunning || info.Status == StatePaused):
		return sb.ended(ctx, nil)
	case info.Doing != "" || !runs && info.Machine != nil:
		return sb.save(ctx, func(i *Info) {
			if i.Doing = ""; !runs {
				i.PID, i.Machine, i.AgentReady = 0, nil, false
			}
		})
	}
	return nil
}
