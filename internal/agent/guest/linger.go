package guest

import (
	"time"

	"golang.org/x/sys/unix"
)

// linger hangs the process's terminal up when nobody has viewed it for as long
// as d, or up to twice that: a shell that a closed browser left behind. One that
// waits for a job is left to it. As after any hangup, what the shell put into
// the background goes on if it wants to.
func (p *process) linger(d time.Duration) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for before := -1; ; {
		select {
		case <-p.ended:
			return
		case <-tick.C:
		}
		now, views := p.ring.visits()
		if views > 0 {
			now = -1 // somebody is there: the time begins when they leave
		} else if now == before && p.alone() {
			p.signal(int(unix.SIGHUP), false)
		}
		before = now
	}
}

// alone reports whether the process has its terminal, and not a job of it.
func (p *process) alone() bool {
	p.s.reaper.hold()
	defer p.s.reaper.release()
	g, err := foreground(p.tty)
	return !p.reaped && err == nil && g == p.pid
}

// visits is how often somebody has come to view r, and how many do.
func (r *ring) visits() (ever, now int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.viewed, len(r.views)
}
