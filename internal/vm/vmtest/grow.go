package vmtest

import (
	"path/filepath"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/wire"
)

// grow is that of a disk under a machine that uses it, and under one that
// boots from it later. What was written is there, and the file system is whole.
func (s *suite) grow() {
	spec := s.Spec(s, "grow", s.dir)
	path := filepath.Join(s.dir, "small.ext4")
	if err := disk.Create(s.ctx, path, 64); err != nil {
		s.Fatal(err)
	}
	spec.Drives[1].Path = path
	m := s.boot(spec)
	c := s.connect(m)
	total := func() int64 {
		st, err := c.Stats(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		return st.DiskTotal >> 20
	}
	s.Logf("at first the guest has %d MiB", total())
	s.fill(c, "/tmp/before", 30, 0)

	if err := disk.Grow(path, 1024); err != nil {
		s.Fatal(err)
	}
	if err := m.ResizeDrive(s.ctx, 1, 1024<<20); err != nil {
		s.Fatal(err)
	}
	for range 2 { // what is done already is no error
		if err := c.Grow(s.ctx, 1024<<20); err != nil {
			s.Fatal(err)
		}
	}
	if n := total(); n < 900 || n > 1024 {
		s.Errorf("grown to 1024 MiB it has %d MiB", n)
	}
	if _, allocated, err := disk.Usage(path); err != nil || allocated > 128<<20 {
		s.Errorf("growing took %d bytes of the host's, %v", allocated, err)
	}
	s.fill(c, "/tmp/after", 100, 0)
	if err := m.ResizeDrive(s.ctx, 5, 1024<<20); wire.CodeOf(err) != wire.Conflict {
		s.Errorf("resizing a drive that isn't there: %v", err)
	}
	if err := c.Shutdown(s.ctx, 0); err != nil {
		s.Fatal(err)
	}
	_ = s.ended(m)
	if err := disk.Check(s.ctx, path); err != nil {
		s.Error(err)
	}

	if err := disk.Grow(path, 2048); err != nil {
		s.Fatal(err)
	}
	spec.ID = "again"
	m = s.boot(spec)
	c = s.connect(m)
	if n := total(); n < 1900 || n > 2048 {
		s.Errorf("grown to 2048 MiB while it was off it has %d MiB", n)
	}
	if st, err := c.Stat(s.ctx, "/tmp/before"); err != nil || st.Size != 30<<20 {
		s.Errorf("the file of before has %d bytes, %v", st.Size, err)
	}
	if err := c.Shutdown(s.ctx, 0); err != nil {
		s.Fatal(err)
	}
	_ = s.ended(m)
	if err := disk.Check(s.ctx, path); err != nil {
		s.Error(err)
	}
}
