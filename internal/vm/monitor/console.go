package monitor

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// What a guest prints is kept in two files, of which the older is replaced when
// the newer is full: so nothing grows.
const (
	consoleFile    = "console.log"
	consoleOld     = "console.old.log"
	consoleHalf    = 512 << 10
	consoleUnsaved = 128 << 10 // at most, where a full disk takes nothing
)

// Console keeps the newest part of what a guest prints.
type Console struct {
	Dir string

	mu      sync.Mutex
	unsaved []byte // what a full disk had no room for, the newest of it
}

// Keep saves what the guest has printed. Nobody else has it any more, so what
// can't be written stays here.
func (c *Console) Keep(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsaved = append(c.unsaved, b...)
	if c.append(c.unsaved) == nil {
		c.unsaved = nil
	} else if over := len(c.unsaved) - consoleUnsaved; over > 0 {
		c.unsaved = append([]byte(nil), c.unsaved[over:]...)
	}
}

// append adds to the newer file, and starts another when it is full.
func (c *Console) append(b []byte) error {
	// The directory is ours, but a link in it is never followed.
	f, err := os.OpenFile(c.path(consoleFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if st, err := f.Stat(); err != nil || st.Size() < consoleHalf {
		return err
	}
	return os.Rename(c.path(consoleFile), c.path(consoleOld))
}

// Open returns what is kept, oldest first.
func (c *Console) Open() (io.ReadCloser, error) {
	c.mu.Lock() // or a file is renamed between the two
	defer c.mu.Unlock()
	var r consoleReader
	for _, name := range []string{consoleOld, consoleFile} {
		f, err := os.Open(c.path(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			_ = r.Close()
			return nil, err
		}
		r.files = append(r.files, f)
	}
	readers := make([]io.Reader, len(r.files))
	for i, f := range r.files {
		readers[i] = f
	}
	r.Reader = io.MultiReader(append(readers, strings.NewReader(string(c.unsaved)))...)
	return &r, nil
}

// Panic is the kernel's reason if the last words of the guest were a panic.
func (c *Console) Panic() string {
	r, err := c.Open()
	if err != nil {
		return ""
	}
	defer r.Close()
	text, _ := io.ReadAll(r)
	if len(text) > 16<<10 {
		text = text[len(text)-16<<10:]
	}
	const mark = "Kernel panic - not syncing: "
	i := strings.LastIndex(string(text), mark)
	if i < 0 {
		return ""
	}
	line, _, _ := strings.Cut(string(text[i+len(mark):]), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return strings.ToValidUTF8(strings.TrimSpace(line), "?")
}

func (c *Console) path(name string) string { return filepath.Join(c.Dir, name) }

type consoleReader struct {
	io.Reader
	files []*os.File
}

func (r *consoleReader) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
