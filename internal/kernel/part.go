package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// part is an unfinished download: the bytes in path.part, and what its server
// said of them in path.part.json. Without a validator it can't be gone on with.
type part struct {
	f    *os.File
	path string // of the finished file
	note partNote
}

type partNote struct {
	URL       string `json:"url"`       // its sha256: it may hold a secret
	Validator string `json:"validator"` // a strong ETag, else Last-Modified
	Total     int64  `json:"total"`
	Boot      string `json:"boot"` // after a power failure unsynced bytes can't be trusted
}

// bootID changes with every start of the host; "" where there is none.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// openPart takes over what an earlier download to path left, if it is of use.
// summed says that a sum will find out bytes that a power failure ate.
func openPart(ctx context.Context, path, rawURL string, summed bool) (*part, error) {
	f, err := lock(ctx, path+".part")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(rawURL))
	id := hex.EncodeToString(sum[:])
	p := &part{f: f, path: path}
	b, err := os.ReadFile(path + ".part.json")
	if err == nil && json.Unmarshal(b, &p.note) == nil && p.note.URL == id && (summed || p.note.Boot == bootID()) {
		return p, nil
	}
	p.note = partNote{URL: id}
	return p, nil
}

// begin forgets the bytes that are there and remembers what will follow.
func (p *part) begin(validator string, total int64) error {
	p.note.Validator, p.note.Total, p.note.Boot = validator, total, bootID()
	// The note of the old bytes must be gone before the first new one is there.
	if err := os.Remove(p.path + ".part.json"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if validator == "" {
		return nil
	}
	b, err := json.Marshal(p.note)
	if err != nil {
		return err
	}
	return writeAtomic(p.path+".part.json", 0o644, func(f *os.File) error { _, err := f.Write(b); return err })
}

// close is for defer. It leaves nothing that no later download can go on from.
func (p *part) close() {
	defer p.f.Close()
	mine, err := p.f.Stat()
	if err != nil {
		return
	}
	named, err := os.Stat(p.path + ".part")
	if err != nil || !os.SameFile(mine, named) {
		return // it has been published or discarded; the name may be another's
	}
	if _, err := os.Stat(p.path + ".part.json"); err != nil || mine.Size() == 0 {
		p.discard()
	}
}

func (p *part) discard() {
	os.Remove(p.path + ".part.json")
	os.Remove(p.path + ".part")
}

// publish gives the finished file its name.
func (p *part) publish() error {
	if err := p.f.Sync(); err != nil {
		return writeError{err}
	}
	if err := os.Rename(p.path+".part", p.path); err != nil {
		return writeError{err}
	}
	os.Remove(p.path + ".part.json")
	return syncDir(filepath.Dir(p.path))
}

func (p *part) reopen(ctx context.Context) error {
	p.f.Close()
	f, err := lock(ctx, p.path+".part")
	if err != nil {
		return err
	}
	p.f, p.note = f, partNote{URL: p.note.URL}
	return nil
}

// replay sums the bytes of earlier attempts, and tells tick of its progress.
func (p *part) replay(ctx context.Context, m *meter, have int64, tick func()) error {
	if m.sum == nil {
		m.done = have
		return nil
	}
	return pump(ctx, io.Discard, &ticking{io.NewSectionReader(p.f, 0, have), tick}, m)
}
