package bandsox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestUsage: what is there is counted where it belongs, holes are not, and what
// nobody uses can be had back.
func TestUsage(t *testing.T) {
	ctx := t.Context()
	m := newManager(t, t.TempDir())
	if u, err := m.Usage(ctx); err != nil || u.Images.Count != 0 || u.Sandboxes.Count != 0 || u.Other.AllocatedBytes == 0 || u.FreeBytes == 0 {
		t.Fatalf("of nothing: %+v %v", u, err)
	}
	sb, err := m.Create(ctx, CreateOptions{Image: vmtest.Image(t), Name: "box", DiskSizeMiB: 1024})
	if err != nil {
		t.Fatal(err)
	}
	u, err := m.Usage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if i := u.Images; i.Count != 1 || i.Active != 1 || i.AllocatedBytes == 0 || i.ReclaimableBytes != 0 {
		t.Errorf("images: %+v", i)
	}
	if s := u.Sandboxes; s.Count != 1 || s.Active != 1 || s.Bytes < 1<<30 || s.AllocatedBytes == 0 || s.AllocatedBytes > 64<<20 || s.ReclaimableBytes != 0 {
		t.Errorf("sandboxes: %+v", s)
	}
	if len(u.Each) != 1 || u.Each[0].ID != sb.ID() || u.Each[0].Name != "box" || u.Each[0].Bytes != u.Sandboxes.Bytes {
		t.Errorf("each: %+v", u.Each)
	}
	if sum := u.Images.AllocatedBytes + u.Sandboxes.AllocatedBytes + u.Kernels.AllocatedBytes + u.Other.AllocatedBytes; sum != u.Total.AllocatedBytes {
		t.Errorf("the parts are %d, the whole %d", sum, u.Total.AllocatedBytes)
	}
	if err := sb.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if u, err = m.Usage(ctx); err != nil || u.Sandboxes.Active != 0 || u.Sandboxes.ReclaimableBytes != u.Sandboxes.AllocatedBytes {
		t.Errorf("of a stopped one: %+v %v", u.Sandboxes, err)
	}
	if err := sb.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if u, err = m.Usage(ctx); err != nil || u.Sandboxes.Count != 0 || u.Images.Active != 0 || u.Images.ReclaimableBytes != u.Images.AllocatedBytes {
		t.Errorf("of an image that nobody uses: %+v %v", u, err)
	}
}

// TestReadyWantsKernel, where the driver boots one, and says how to get it.
func TestReadyWantsKernel(t *testing.T) {
	ctx := t.Context()
	m := newManager(t, t.TempDir())
	if r, err := m.Ready(ctx); err != nil || r.Driver != "process" || r.Version == "" || r.Kernel != "" {
		t.Errorf("the fake: %+v %v", r, err)
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	real, err := Open(ctx, Config{Storage: t.TempDir(), Driver: "qemu"})
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	var e *Error
	if _, err := real.Ready(ctx); !errors.As(err, &e) || e.Code != CodeUnavailable || e.Hint == "" {
		t.Errorf("without QEMU: %v", err)
	}
	for _, arch := range []string{"x86_64", "aarch64"} {
		if err := os.WriteFile(filepath.Join(bin, "qemu-system-"+arch), []byte("#!/bin/sh\necho QEMU emulator version 7.2.1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := real.Ready(ctx); !errors.As(err, &e) || e.Code != CodeNotFound || e.Hint == "" || r.Version != "7.2.1" {
		t.Errorf("without a kernel: %+v %v", r, err)
	}
}
