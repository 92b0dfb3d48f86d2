package vmtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/vm"
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

// badDrives: a guest that lacks its base or disk, or can't make anything of
// them, says so when it is asked.
func (s *suite) badDrives() {
	tests := []struct {
		name string
		want string
		code wire.Code
		bend func(*vm.Spec)
		m    vm.Machine
	}{
		{name: "missing-disk", want: "disk", code: wire.NotFound, bend: func(spec *vm.Spec) { spec.Drives = spec.Drives[:1] }},
		{name: "garbage-disk", want: "disk", code: wire.Invalid, bend: func(spec *vm.Spec) { spec.Drives[1].Path = s.garbage(spec.Dir) }},
		{name: "garbage-base", want: "base", code: wire.Invalid, bend: func(spec *vm.Spec) { spec.Drives[0].Path = s.garbage(spec.Dir) }},
	}
	for i := range tests { // all at once: one of them waits for what never comes
		t := &tests[i]
		spec := s.Spec(s, t.name, filepath.Join(s.dir, t.name))
		t.bend(&spec)
		t.m = s.boot(spec)
	}
	for _, t := range tests {
		ctx, cancel := context.WithTimeout(s.ctx, Timeout)
		c, err := agent.Connect(ctx, t.m.Dial)
		cancel()
		if err == nil {
			_ = c.Close()
		}
		s.Logf("%s: %v", t.name, err)
		if wire.CodeOf(err) != t.code || !strings.Contains(err.Error(), "the "+t.want) {
			s.Errorf("%s: got %v", t.name, err)
		}
	}
}

func (s *suite) garbage(dir string) string {
	s.Helper()
	path := filepath.Join(dir, "garbage")
	if err := os.WriteFile(path, bytes.Repeat([]byte("garbage "), 1<<18), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// space is that of a small disk: what is deleted is free again on the host, and
// when it is full that is the programs' problem.
func (s *suite) space() {
	spec := s.Spec(s, "space", s.dir)
	path := filepath.Join(s.dir, "small.ext4")
	if err := disk.Create(s.ctx, path, 128); err != nil {
		s.Fatal(err)
	}
	spec.Drives[1].Path = path
	c := s.connect(s.boot(spec))
	s.sub("Discard", func(s *suite) {
		if !s.driver.Traits().Discard {
			s.Skip("needs a machine whose drives know discard: " + s.driver.Name() + " has none")
		}
		punches(s, s.dir)
		s.fill(c, "/tmp/big", 64, 0)
		const most = 32 << 20
		if n := allocated(s, path); n < most {
			s.Fatalf("64 MiB were written, and the disk takes %d bytes", n)
		}
		if _, errs, exit := s.tool(c, "delete", "/tmp/big"); exit.Code != 0 {
			s.Fatalf("%+v: %s", exit, errs)
		}
		s.await("the host has its space again", func() bool { return allocated(s, path) < most })
		s.Logf("the disk takes %d KiB of the host's", allocated(s, path)>>10)
	})
	s.sub("Full", func(s *suite) {
		s.fill(c, "/tmp/full", 1<<10, int(syscall.ENOSPC))
		s.answers(c)
		_, err := c.Write(s.ctx, wire.WriteRequest{Path: "/tmp/one-more"}, bytes.NewReader(make([]byte, 1<<20)))
		if wire.CodeOf(err) != wire.Exhausted {
			s.Errorf("writing to a full disk: %v", err)
		}
		if _, errs, exit := s.tool(c, "delete", "/tmp/full"); exit.Code != 0 {
			s.Fatalf("%+v: %s", exit, errs)
		}
		s.fill(c, "/tmp/fits", 1, 0)
	})
}

func (s *suite) fill(c *agent.Client, path string, mib, code int) {
	s.Helper()
	if _, errs, exit := s.tool(c, "fill", path, strconv.Itoa(mib)); exit.Code != code {
		s.Fatalf("filling %s: %+v: %s", path, exit, errs)
	}
}

// allocated is what a file takes of the host's disk.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	_, n, err := disk.Usage(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// punches skips t where files can't give back what is in their middle.
func punches(t testing.TB, dir string) {
	t.Helper()
	f, err := os.CreateTemp(dir, "hole")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20); err != nil {
		t.Skipf("needs a file system with holes under %s: %v", dir, err)
	}
}

// scratch is an image of one program and nothing else.
func (s *suite) scratch() {
	spec := s.Spec(s, "scratch", s.dir)
	spec.Drives[0].Path = s.Scratch
	c := s.connect(s.boot(spec))
	if err := c.Identity(s.ctx, wire.Identity{Hostname: "bare", DNS: []string{"192.0.2.1"}, Hosts: map[string]string{"host": "192.0.2.2"}}); err != nil {
		s.Error(err)
	}
	s.answers(c)
	if out, errs, exit := s.tool(c, "id"); out != "0 0 [0] /\n" {
		s.Errorf("root is %q; %q, %+v", out, errs, exit)
	}
	_, err := c.Start(s.ctx, wire.StartRequest{Shell: "true"})
	if wire.CodeOf(err) != wire.NotFound || !strings.Contains(err.Error(), "/bin/sh") {
		s.Errorf("a shell command without a shell: %v", err)
	}
	if _, err := c.Stat(s.ctx, "/proc/self/status"); err != nil {
		s.Error(err)
	}
}
