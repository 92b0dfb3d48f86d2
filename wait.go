package bandsox

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// lookAgain is how often a record is read that another process may change.
const lookAgain = 100 * time.Millisecond

// Wait returns when the sandbox is in the state: at once if it is. A sandbox
// that is deleted first is a not_found error, unless that was waited for.
func (sb *Sandbox) Wait(ctx context.Context, state State) error {
	return fail("wait", sb.id, sb.wait(ctx, state))
}

func (sb *Sandbox) wait(ctx context.Context, state State) error {
	if !slices.Contains(states[:], state) {
		return wire.Errorf(CodeInvalid, "%q is no state: there are %v", state, states)
	}
	for {
		sb.mu.Lock()
		changed := sb.changed
		sb.mu.Unlock()
		info, err := sb.fresh(ctx)
		is := info.Status
		if err != nil && classify(err) == CodeNotFound {
			is = StateDeleted
		} else if err != nil {
			return err
		}
		switch {
		case is == state:
			return nil
		case is == StateDeleted:
			return wire.Errorf(CodeNotFound, "sandbox %s was deleted and will never be %s", sb.id, state)
		}
		var again <-chan time.Time
		if sb.m.cfg.Shared {
			again = time.After(lookAgain)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return errors.Join(wire.Errorf(classify(ctx.Err()), "sandbox %s is %s, not %s", sb.id, is, state), context.Cause(ctx))
		}
	}
}
