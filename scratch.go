package bandsox

import "os"

// TempFile opens a file for what must be put aside for a while, without a
// name: it is gone when it is closed.
func (m *Manager) TempFile() (*os.File, error) {
	f, err := os.CreateTemp(m.store.Scratch(), "file-*")
	if err != nil {
		return nil, fail("spool", "", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fail("spool", "", err)
	}
	return f, nil
}
