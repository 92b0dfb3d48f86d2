package vmtest

import (
	"context"
	"os"
	"path/filepath"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// badSpec: what can't boot says why, and leaves nothing.
func (s *suite) badSpec() {
	spec := s.Spec(s, "bad", s.dir)
	spec.Drives = append(spec.Drives, vm.Drive{Path: filepath.Join(s.dir, "missing, really")})
	s.refused(spec, wire.NotFound)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	spec = s.Spec(s, "late", filepath.Join(s.dir, "late"))
	if m, err := s.driver.Boot(ctx, spec); err == nil {
		if err := m.Kill(); err != nil { // it was sooner than the caller
			s.Error(err)
		}
	}
	s.noSockets(spec.Dir)
}

// badKernel: half a kernel, and something else.
func (s *suite) badKernel() {
	whole, err := os.ReadFile(s.Kernel)
	if err != nil {
		s.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"half": whole[:len(whole)/2], "header": whole[:64], "empty": nil, "text": []byte("a kernel\n"), "zeros": make([]byte, 1<<20),
	} {
		spec := s.Spec(s, "bad-"+name, filepath.Join(s.dir, name))
		spec.Kernel = filepath.Join(s.dir, name, "kernel")
		if err := os.WriteFile(spec.Kernel, content, 0o600); err != nil {
			s.Fatal(err)
		}
		s.refused(spec, wire.Invalid)
	}
	spec := s.Spec(s, "bad-none", filepath.Join(s.dir, "none"))
	spec.Kernel = filepath.Join(s.dir, "none", "kernel")
	s.refused(spec, wire.NotFound)
}

func (s *suite) refused(spec vm.Spec, code wire.Code) {
	s.Helper()
	m, err := s.driver.Boot(s.ctx, spec)
	if err == nil {
		_ = m.Kill()
		s.Errorf("%s booted", spec.ID)
		return
	}
	s.Logf("%v", err)
	if wire.CodeOf(err) != code {
		s.Errorf("%s: %v has code %s, want %s", spec.ID, err, wire.CodeOf(err), code)
	}
	s.noSockets(spec.Dir)
}
