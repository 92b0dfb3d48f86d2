package vmtest

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// survivesKill: what a program flushed is there after the machine's death, the
// file system is whole, and the base is what it was.
func (s *suite) survivesKill() {
	before := s.hash(s.Base)
	spec := s.Spec(s, "first", s.dir)
	m := s.boot(spec)
	c := s.connect(m)
	if _, errs, exit := s.tool(c, "write", "/etc/kept", "flushed"); exit.Code != 0 {
		s.Fatal(errs)
	}
	// Replacing a file of the base goes to the disk, too.
	if _, errs, exit := s.tool(c, "write", "/tmp/more", strings.Repeat("more", 1000)); exit.Code != 0 {
		s.Fatal(errs)
	}
	if err := m.Kill(); err != nil {
		s.Fatal(err)
	}
	disk := spec.Drives[1].Path
	if out, err := exec.CommandContext(s.ctx, "e2fsck", "-p", disk).CombinedOutput(); err != nil {
		var ee *exec.ExitError
		if !errors.As(err, &ee) || ee.ExitCode() != 1 { // 1: it was mended, here by its journal
			s.Errorf("e2fsck -p: %v\n%s", err, out)
		}
	}
	if out, err := exec.CommandContext(s.ctx, "e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		s.Errorf("e2fsck -fn: %v\n%s", err, out)
	}
	spec.ID = "second"
	c = s.connect(s.boot(spec))
	_, r, err := c.Read(s.ctx, wire.ReadRequest{Path: "/etc/kept"})
	if err != nil {
		s.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "flushed" {
		s.Errorf("the file has %q, %v", b, err)
	}
	if s.hash(s.Base) != before {
		s.Error("the base was written to")
	}
}

func (s *suite) hash(path string) [32]byte {
	s.Helper()
	f, err := os.Open(path)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		s.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}
