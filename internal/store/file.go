package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// WriteJSON writes v to path, whole or not at all.
func (s *Store) WriteJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return s.WriteFile(path, append(b, '\n'))
}

// WriteFile writes b to path, whole or not at all.
func (s *Store) WriteFile(path string, b []byte) error { return replace(s.Scratch(), path, b) }

// Replace writes b to path, whole or not at all, for those who have no Store.
func Replace(path string, b []byte) error { return replace(filepath.Dir(path), path, b) }

// replace writes b into a new file in dir and gives that its name.
func replace(dir, path string, b []byte) (err error) {
	f, err := os.CreateTemp(dir, "file-*")
	if err != nil {
		return fileError(path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fileError(path, err)
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return Publish(f.Name(), path)
}

// Publish gives a whole, flushed file its final name.
func Publish(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func fileError(path string, err error) error {
	code := wire.Internal
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		code = wire.Exhausted
	}
	return wire.Errorf(code, "writing %s: %w", path, err)
}

// ReadJSON reads what WriteJSON wrote. A missing file is code not_found.
func ReadJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Errorf(wire.NotFound, "reading %s: %w", path, err)
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return wire.Errorf(wire.Internal, "reading %s: %w", path, err)
	}
	return nil
}
