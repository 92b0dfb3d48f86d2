package disk

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

// sparse makes a file of size bytes with data at some places.
func sparse(t *testing.T, path string, size int64, at ...int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, off := range at {
		if _, err := f.WriteAt(bytes.Repeat([]byte("data"), 3000), off); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCopy(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		size int64
		at   []int64
	}{
		"empty":        {0, nil},
		"only a hole":  {64 * mib, nil},
		"begin":        {64 * mib, []int64{0}},
		"several":      {64 * mib, []int64{5000, 10 * mib, 10*mib + 100000, 63 * mib}},
		"no hole":      {12000, []int64{0}},
		"odd end":      {mib + 12345, []int64{mib}},
		"several GiB":  {5 << 30, []int64{0, 3 << 30, 5<<30 - 12000}},
		"second block": {8192 + 12000, []int64{8192}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
			sparse(t, src, c.size, c.at...)
			if err := Copy(t.Context(), dst, src); err != nil {
				t.Fatal(err)
			}
			only(t, dir, "src", "dst")
			same(t, src, dst, c.at)
			if err := Copy(t.Context(), dst, src); wire.CodeOf(err) != wire.Conflict {
				t.Errorf("onto a file: %v", err)
			}
		})
	}
}

func same(t *testing.T, src, dst string, at []int64) {
	t.Helper()
	wantSize, wantAlloc, _ := Usage(src)
	size, alloc, err := Usage(dst)
	if err != nil || size != wantSize || alloc > wantAlloc+int64(len(at)+1)*(128<<10) {
		t.Errorf("the copy has %d bytes, %d allocated, the original %d, %d (%v)", size, alloc, wantSize, wantAlloc, err)
	}
	if size <= 64<<20 && sumOf(t, src) != sumOf(t, dst) {
		t.Error("the copy differs")
	}
	a, errA := os.Open(src)
	b, errB := os.Open(dst)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	defer a.Close()
	defer b.Close()
	for _, off := range at {
		x, y := make([]byte, 16000), make([]byte, 16000)
		n, _ := a.ReadAt(x, off)
		m, _ := b.ReadAt(y, off)
		if n != m || !bytes.Equal(x, y) {
			t.Errorf("the copy differs at %d", off)
		}
	}
}

// Between file systems nothing can be shared.
func TestCopyAcross(t *testing.T) {
	other := tmpfs(t, "64m")
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(other, "dst")
	at := []int64{0, 20 << 20}
	sparse(t, src, 40<<20, at...)
	if err := Copy(t.Context(), dst, src); err != nil {
		t.Fatal(err)
	}
	same(t, src, dst, at)
	if err := Copy(t.Context(), filepath.Join(dir, "back"), dst); err != nil {
		t.Fatal(err)
	}
	same(t, src, filepath.Join(dir, "back"), at)
}

func TestCopyOnFullDisk(t *testing.T) {
	full := tmpfs(t, "1m")
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, bytes.Repeat([]byte("x"), 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), filepath.Join(full, "dst"), src); wire.CodeOf(err) != wire.Exhausted {
		t.Errorf("got %v", err)
	}
	only(t, full)
}

func TestCopyRefuses(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := Copy(t.Context(), dst, src); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("no source: %v", err)
	}
	if err := Copy(t.Context(), dst, dir); err == nil {
		t.Error("copied a directory")
	}
	if err := Copy(t.Context(), dst, "/dev/null"); err == nil {
		t.Error("copied a device")
	}
	sparse(t, src, 1<<20, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Copy(ctx, dst, src); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err) // a reflink may have been faster
	}
	only(t, dir, "src", "dst")
}
