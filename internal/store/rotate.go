package store

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// Rotating is a file that lines are added to. It has a bound: when it is full
// it becomes PATH.1, that PATH.2 and so on, and the oldest goes.
type Rotating struct {
	path string
	max  int64 // bytes of one file
	keep int   // full files that are kept

	mu      sync.Mutex
	f       *os.File
	size    int64
	Rotated func(*os.File) // told of each new file while no line is written; may be nil
}

// OpenRotating opens the file at path, making it if it isn't there. Half a line
// at its end, of a process that was killed, is ended.
func OpenRotating(path string, max int64, keep int) (*Rotating, error) {
	r := &Rotating{path: path, max: max, keep: keep}
	return r, r.open()
}

func (r *Rotating) open() error {
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fileError(r.path, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fileError(r.path, err)
	}
	r.f, r.size = f, info.Size()
	last := []byte{'\n'}
	if r.size > 0 {
		_, _ = f.ReadAt(last, r.size-1)
	}
	if last[0] != '\n' {
		n, _ := f.Write([]byte{'\n'})
		r.size += int64(n)
	}
	return nil
}

// Write adds whole lines.
func (r *Rotating) Write(lines []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil || r.size > 0 && r.size+int64(len(lines)) > r.max {
		if err := r.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Write(lines)
	r.size += int64(n)
	if err != nil {
		err = fileError(r.path, err)
	}
	return n, err
}

func (r *Rotating) rotate() error {
	if r.f != nil {
		r.f.Close()
		r.f = nil
		for i := r.keep; i >= 1; i-- {
			from := r.path
			if i > 1 {
				from += "." + strconv.Itoa(i-1)
			}
			if err := os.Rename(from, r.path+"."+strconv.Itoa(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fileError(r.path, err)
			}
		}
	}
	if err := r.open(); err != nil {
		return err
	}
	if r.Rotated != nil {
		r.Rotated(r.f)
	}
	return nil
}

// Paths are the files that there may be, the newest first.
func (r *Rotating) Paths() []string {
	list := []string{r.path}
	for i := 1; i <= r.keep; i++ {
		list = append(list, r.path+"."+strconv.Itoa(i))
	}
	return list
}

// Close closes the file.
func (r *Rotating) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}
