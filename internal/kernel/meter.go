package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"time"
)

// meter watches the bytes of one file go by: it sums, bounds and reports them.
type meter struct {
	o     FetchOptions
	done  int64
	total int64 // 0 = unknown
	sum   hash.Hash
	last  time.Time
}

func newMeter(o FetchOptions, total int64) *meter {
	m := &meter{o: o, total: max(total, 0)}
	if o.SHA256 != "" {
		m.sum = sha256.New()
	}
	return m
}

// add takes account of p, which is about to be written.
func (m *meter) add(p []byte) error {
	m.done += int64(len(p))
	if m.done > m.o.MaxBytes {
		return tooBig(m.done, m.o.MaxBytes)
	}
	if m.sum != nil {
		m.sum.Write(p)
	}
	if m.o.Progress != nil && time.Since(m.last) >= 50*time.Millisecond {
		m.last = time.Now()
		m.o.Progress(m.o.What, m.done, m.total)
	}
	return nil
}

// finish reports the end, and an error when it isn't the file asked for.
func (m *meter) finish() error {
	if m.sum != nil {
		if got := hex.EncodeToString(m.sum.Sum(nil)); got != m.o.SHA256 {
			return wrongSum(got, m.o.SHA256)
		}
	}
	if m.o.Progress != nil {
		m.o.Progress(m.o.What, m.done, m.done)
	}
	return nil
}

// checkFile compares the whole of f with a sum, when there is one.
func checkFile(f *os.File, want string) error {
	if want == "" {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return wrongSum(got, want)
	}
	return nil
}
