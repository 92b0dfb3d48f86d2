package disk

import (
	"path/filepath"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := Grow(path, 64); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("a disk that isn't there: %v", err)
	}
	if err := Create(t.Context(), path, 32); err != nil {
		t.Fatal(err)
	}
	_, before, _ := Usage(path)
	for _, mib := range []int{64, 16, 64} { // it never shrinks
		if err := Grow(path, mib); err != nil {
			t.Fatal(err)
		}
		if size, allocated, err := Usage(path); err != nil || size != 64<<20 || allocated != before {
			t.Errorf("%d MiB: size %d, %d allocated, %v", mib, size, allocated, err)
		}
	}
	if err := Grow(path, MaxSizeMiB+1); wire.CodeOf(err) != wire.Invalid {
		t.Errorf("a disk too large: %v", err)
	}
	if err := Check(t.Context(), path); err != nil {
		t.Error(err)
	}
}
