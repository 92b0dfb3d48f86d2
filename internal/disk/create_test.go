package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestCreate(t *testing.T) {
	need(t, "mke2fs")
	for _, mib := range []int{MinSizeMiB, 17, 100, 511, 4096, 65536, MaxSizeMiB} {
		t.Run(fmt.Sprint(mib), func(t *testing.T) {
			if testing.Short() && mib > 65536 {
				t.Skip("needs time: e2fsck of 1 TiB")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "disk.ext4")
			if err := Create(t.Context(), path, mib); err != nil {
				t.Fatal(err)
			}
			only(t, dir, "disk.ext4")
			clean(t, path)
			apparent, allocated, err := Usage(path)
			if err != nil || apparent != int64(mib)<<20 || allocated > 16<<20 {
				t.Errorf("%d bytes, %d allocated (%v)", apparent, allocated, err)
			}
			t.Logf("%d KiB allocated", allocated>>10)
			features := string(debugfs(t, path, "features"))
			if !strings.Contains(features, "has_journal") || !strings.Contains(features, "extent") || strings.Contains(features, "resize_inode") {
				t.Errorf("features %s", features)
			}
			if err := Create(t.Context(), path, mib); wire.CodeOf(err) != wire.Conflict {
				t.Errorf("a second one: %v", err)
			}
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, mib := range []int{-1, 0, MinSizeMiB - 1, MaxSizeMiB + 1} {
		dir := t.TempDir()
		if err := Create(t.Context(), filepath.Join(dir, "disk"), mib); wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%d MiB: %v", mib, err)
		}
		only(t, dir)
	}
	need(t, "mke2fs")
	dir := t.TempDir()
	if err := Create(t.Context(), filepath.Join(dir, "no", "disk"), 16); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("no directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Create(ctx, filepath.Join(dir, "disk"), 16); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	only(t, dir)
}

func TestDiskHoldsWhatIsWritten(t *testing.T) {
	need(t, "mke2fs")
	path := filepath.Join(t.TempDir(), "disk")
	if err := Create(t.Context(), path, 64); err != nil {
		t.Fatal(err)
	}
	t.Run("mounted", func(t *testing.T) {
		dir := mount(t, path, "rw")
		f, err := os.Create(filepath.Join(dir, "file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(bytes.Repeat([]byte("disk"), 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	})
	clean(t, path)
}

func TestCreateOnFullDisk(t *testing.T) {
	need(t, "mke2fs")
	dir := tmpfs(t, "64k")
	err := Create(t.Context(), filepath.Join(dir, "disk"), 65536)
	if wire.CodeOf(err) != wire.Exhausted {
		t.Errorf("got %v", err)
	}
	only(t, dir)
}

// An mke2fs older than 1.47 does not know one of the options.
func TestCreateWithOldMke2fs(t *testing.T) {
	real, err := tool("mke2fs")
	if err != nil {
		t.Skip("needs mke2fs")
	}
	bin := t.TempDir()
	script := `#!/bin/sh
case "$*" in *assume_storage_prezeroed*) echo "Bad option(s) specified: assume_storage_prezeroed" >&2; exit 1;; esac
exec ` + real + ` "$@"
`
	if err := os.WriteFile(filepath.Join(bin, "mke2fs"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	path := filepath.Join(t.TempDir(), "disk")
	if err := Create(t.Context(), path, 4096); err != nil {
		t.Fatal(err)
	}
	clean(t, path)
	if _, allocated, _ := Usage(path); allocated > 4<<20 {
		t.Errorf("%d bytes allocated", allocated)
	}
}

func TestToolMissing(t *testing.T) {
	_, err := tool("mke2fs-of-another-name")
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Unavailable || !strings.Contains(e.Hint, "e2fsprogs") {
		t.Errorf("got %v", err)
	}
}

func TestToolOutsidePath(t *testing.T) {
	need(t, "mke2fs")
	t.Setenv("PATH", t.TempDir())
	need(t, "mke2fs")
	if _, err := tool("mke2fs"); err != nil {
		t.Error(err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	need(t, "mke2fs")
	path := filepath.Join(t.TempDir(), "disk")
	if err := Create(t.Context(), path, 16); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xaa}, 8192), 4096); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), path); wire.CodeOf(err) != wire.Internal || !strings.Contains(err.Error(), "e2fsck") {
		t.Errorf("got %v", err)
	}
	if err := Check(t.Context(), path+"-not"); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("no file: %v", err)
	}
}

func TestFree(t *testing.T) {
	n, err := Free(t.TempDir())
	if err != nil || n < 0 {
		t.Errorf("%d bytes free: %v", n, err)
	}
	if _, err := Free("/no/such/directory"); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("got %v", err)
	}
}
