package bandsox

import (
	"context"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// patience is how long a guest that says nothing is borne with. It is the guest
// that ends a program whose time is over, and tells: one that has halted its own
// processor does neither, and its machine runs on.
type patience struct {
	late   time.Duration // beyond a program's own timeout
	every  time.Duration // the guest is asked for a sign of life
	answer time.Duration // it has for that; a host may be very busy
}

var usualPatience = patience{late: 10 * time.Second, every: 30 * time.Second, answer: 2 * time.Minute}

// watch waits for the program's end, or for the guest's silence, which it
// returns as an error, or as late when the program's time is over.
func (c *Cmd) watch(client *agent.Client, copied <-chan struct{}) (late bool, err error) {
	patience := c.sb.m.patience
	var over <-chan time.Time
	if c.Timeout > 0 {
		t := time.NewTimer(c.Timeout + patience.late)
		defer t.Stop()
		over = t.C
	}
	tick := time.NewTicker(patience.every)
	defer tick.Stop()
	answers := make(chan error, 1)
	asking := false
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case <-copied:
			return false, nil
		case <-client.Done():
			return false, nil // whoever copies sees it too
		case <-over:
			if c.sb.answering() {
				return true, nil
			}
			over = nil // a paused guest's clock stands still
		case <-tick.C:
			if asking || !c.sb.answering() {
				continue
			}
			asking = true
			go func() {
				ctx, cancel := context.WithTimeout(ctx, patience.answer)
				defer cancel()
				answers <- client.Ping(ctx)
			}()
		case err := <-answers:
			asking = false
			if err != nil && classify(err) == CodeTimeout && c.sb.answering() {
				return false, wire.Errorf(CodeUnavailable, "the guest of sandbox %s has not answered for %v", c.sb.id, patience.answer).
					WithHint("bandsox restart %s", c.sb.id)
			}
		}
	}
}

// answering says that the guest should be: it is neither paused nor halted.
func (sb *Sandbox) answering() bool {
	return sb.state() == StateRunning && sb.haltedWhy() == nil
}
