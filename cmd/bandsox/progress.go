package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how long work goes on: bars on a terminal, elsewhere a line
// when something begins, one every few seconds, and one when it ends.
type progress struct {
	out  *os.File
	pool *mpb.Progress // nil without a terminal

	mu    sync.Mutex
	tasks map[string]*task
}

type task struct {
	bar    *mpb.Bar
	began  time.Time
	spoke  time.Time
	closed bool
}

const speakEvery = 5 * time.Second

func newProgress(out *os.File) *progress {
	return &progress{out: out, tasks: map[string]*task{}}
}

// update is a bandsox.Config.Progress.
func (p *progress) update(what string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tasks[what]
	if t == nil {
		t = &task{began: time.Now(), spoke: time.Now()}
		p.tasks[what] = t
		p.begin(what, t, total)
	}
	if t.closed {
		return
	}
	end := total > 0 && done >= total
	switch {
	case t.bar != nil:
		if total > 0 {
			t.bar.SetTotal(total, false)
		}
		t.bar.SetCurrent(done)
		if end {
			t.bar.SetTotal(-1, true)
		}
	case !end && time.Since(t.spoke) > speakEvery:
		t.spoke = time.Now()
		fmt.Fprintf(p.out, "%s: %s\n", what, amount(done, total))
	}
	if end {
		p.end(what, t, done)
	}
}

func (p *progress) begin(what string, t *task, total int64) {
	if !term.IsTerminal(int(p.out.Fd())) {
		fmt.Fprintf(p.out, "%s\n", what)
		return
	}
	if p.pool == nil {
		p.pool = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(40), mpb.WithRefreshRate(120*time.Millisecond))
	}
	t.bar = p.pool.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(what+" ")),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string { return amount(s.Current, s.Total) })))
}

func (p *progress) end(what string, t *task, done int64) {
	t.closed = true
	if t.bar == nil && time.Since(t.began) > time.Second {
		fmt.Fprintf(p.out, "%s: %s in %.1f s\n", what, amount(done, 0), time.Since(t.began).Seconds())
	}
}

// finish takes the bars off the screen. It may be called twice, and on nil.
func (p *progress) finish() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil {
		return
	}
	for _, t := range p.tasks {
		if t.bar != nil && !t.closed {
			t.bar.Abort(true)
		}
		t.closed = true
	}
	p.pool.Wait()
	p.pool = nil
}

func amount(done, total int64) string {
	if total > 0 {
		return fmt.Sprintf("%s of %s", bytesText(done), bytesText(total))
	}
	return bytesText(done)
}

// bytesText is a size for people: 3.4 MiB.
func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		f /= 1024
		if f < 1024 || unit == "TiB" {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return ""
}
