package bandsox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox/agentbin"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// agentProgram returns the guest agent: the one that was named, the one built
// in, or the one that `go install` put beside this program.
func (m *Manager) agentProgram() ([]byte, error) {
	if m.cfg.Agent != "" {
		b, err := os.ReadFile(m.cfg.Agent)
		if err != nil {
			return nil, wire.Errorf(wire.NotFound, "reading the guest agent: %w", err)
		}
		return b, nil
	}
	if b, ok := agentbin.Agent(Arch); ok {
		return b, nil
	}
	const name = "bandsox-agent"
	var at []string
	if self, err := os.Executable(); err == nil {
		at = append(at, filepath.Join(filepath.Dir(self), name))
	}
	if path, err := exec.LookPath(name); err == nil {
		at = append(at, path)
	}
	for _, path := range at {
		b, err := os.ReadFile(path)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, wire.Errorf(wire.Internal, "reading the guest agent: %w", err)
		}
	}
	return nil, wire.Errorf(wire.NotFound, "this build has no guest agent in it and there is no %s beside it or on PATH", name).
		WithHint("CGO_ENABLED=0 go install github.com/bandsox/bandsox/cmd/bandsox-agent@latest")
}

// initramfs returns the initramfs of kernel k with this agent and what this
// driver's machines need. Its name is what
// it is made of, so one that is there is right.
func (m *Manager) initramfs(_ context.Context, k *kernel.Kernel) (string, error) {
	agent, err := m.agentProgram()
	if err != nil {
		return "", err
	}
	want := m.driver.Traits().Modules
	sum := sha256.Sum256(append([]byte(k.Digest+"\n"+strings.Join(want, " ")+"\n"), agent...))
	path := m.store.Initramfs(hex.EncodeToString(sum[:12]))
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // a cleanup leaves what is in use
		return path, nil
	}
	tmp := filepath.Join(m.store.Scratch(), store.NewID()) // several may make it at once: they make the same
	if err := kernel.WriteInitramfs(tmp, agent, k, want); err != nil {
		return "", err
	}
	return path, store.Publish(tmp, path)
}
