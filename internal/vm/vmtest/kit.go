package vmtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/wire"
)

// Kernels installs a kernel once, in the tests' cache, and returns the
// directory that it and others are in. It skips t where none can be had.
func Kernels(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := filepath.Join(cacheDir(t), "kernels")
	_, err := kernel.Install(ctx, dir, kernel.InstallOptions{Require: []string{"virtio_console"}})
	if code := wire.CodeOf(err); err != nil && (code == wire.Unavailable || code == wire.NotFound) {
		t.Skipf("needs a guest kernel: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Program compiles a program of this module for a guest and returns its path.
func Program(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(dir))
	if err := os.WriteFile(path, build(t, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Answer returns when the agent behind dial has answered once.
func Answer(ctx context.Context, dial func(context.Context) (net.Conn, error)) error {
	c, err := agent.Connect(ctx, dial)
	if err != nil {
		return err
	}
	return c.Close()
}
