package image

import (
	"sync"
	"time"
)

// progressPause is the least time between two reports.
const progressPause = 50 * time.Millisecond

// meter adds up the bytes of several goroutines for a progress function.
type meter struct {
	what  string
	total int64
	tell  func(what string, done, total int64) // may be nil

	mu   sync.Mutex
	done int64
	next time.Time
}

// add counts n more bytes; a negative n takes back those of a failed try.
func (m *meter) add(n int64) {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	now := time.Now()
	if now.Before(m.next) && m.done != m.total {
		return
	}
	m.next = now.Add(progressPause)
	m.tell(m.what, m.done, m.total)
}

// end makes the last report, which add may have held back.
func (m *meter) end() {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(m.what, m.done, m.total)
}
