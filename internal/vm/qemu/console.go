package qemu

import (
	"context"
	"encoding/base64"
	"sync"

	"github.com/bandsox/bandsox/internal/vm/monitor"
)

// console is what a guest prints: into a ring in QEMU's memory, which holds the
// newest part whether or not we run, and from there into the files of a
// monitor.Console. So nobody waits for anybody.
type console struct {
	monitor.Console
	draining sync.Mutex
}

const consoleRead = 64 << 10 // at once: a line of QMP is bounded

// drain moves what the guest has printed from the rings into the files.
func (c *console) drain(ctx context.Context, q *qmp) error {
	c.draining.Lock()
	defer c.draining.Unlock()
	for _, ring := range []string{"early", "console"} {
		// A guest that prints faster than we read must not keep us here.
		for left := consoleRing; left > 0; {
			var text string
			err := q.do(ctx, "ringbuf-read", map[string]any{"device": ring, "size": consoleRead, "format": "base64"}, &text)
			if err != nil {
				return err
			}
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return err
			}
			if len(b) == 0 {
				break
			}
			c.Keep(b)
			left -= len(b)
		}
	}
	return nil
}
