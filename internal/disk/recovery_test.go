package disk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNeedsRecovery(t *testing.T) {
	need(t, "mke2fs")
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := Create(t.Context(), path, 64); err != nil {
		t.Fatal(err)
	}
	if dirty, err := NeedsRecovery(path); dirty || err != nil {
		t.Errorf("a new disk: %v, %v", dirty, err)
	}
	// As ext4 marks one that is mounted.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var flags [4]byte
	if _, err := f.ReadAt(flags[:], superblockAt+incompatAt); err != nil {
		t.Fatal(err)
	}
	flags[0] |= incompatRecover
	if _, err := f.WriteAt(flags[:], superblockAt+incompatAt); err != nil {
		t.Fatal(err)
	}
	if dirty, err := NeedsRecovery(path); !dirty || err != nil {
		t.Errorf("one that was cut off: %v, %v", dirty, err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NeedsRecovery(other); err == nil {
		t.Error("zeros are taken for a disk")
	}
	if _, err := NeedsRecovery(other + "-none"); err == nil {
		t.Error("nothing is taken for a disk")
	}
}
