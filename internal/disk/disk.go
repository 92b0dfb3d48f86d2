// Package disk makes the two block devices of a sandbox: the base, a read-only
// ext4 file system with an image's files, shared by all sandboxes of the
// image; and the disk, an empty ext4 on a sparse file that only one sandbox
// writes to.
//
// Nothing half-written ever has a final name: a file is made under a name that
// matches [TempPattern], in the directory where it will stay, and renamed when
// it is whole. On an error the temporary file is removed. A process killed in
// between leaves it behind; whoever owns the directory may remove every file
// of that pattern when no build is running.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
	"golang.org/x/sys/unix"
)

// TempPattern matches the names of files that are not finished.
const TempPattern = ".tmp-*"

// Base describes a finished base.
type Base struct {
	Path           string `json:"path"`
	Digest         string `json:"digest"` // of the image
	SizeBytes      int64  `json:"size_bytes"`
	AllocatedBytes int64  `json:"allocated_bytes"`
}

// Usage returns a file's length and what it takes of its file system.
func Usage(path string) (apparent, allocated int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, failed(err, path, "reading the size of %q", path)
	}
	return st.Size, st.Blocks * 512, nil
}

// Free returns the bytes that an ordinary user may still write below dir.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, failed(err, dir, "reading the free space of %q", dir)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Check has e2fsck look the file system over, changing nothing. A running
// machine's disk always looks damaged: its journal is not replayed.
func Check(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return failed(err, path, "checking %q", path)
	}
	bin, err := tool("e2fsck")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, bin, "-fn", path).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return wire.Errorf(wire.Internal, "checking %q: e2fsck: %w: %s", path, err, tail(out)).WithHint("e2fsck -f %s", path)
}

// tool finds a program of e2fsprogs, also where an ordinary user's PATH does
// not lead.
func tool(name string) (string, error) {
	if bin, err := exec.LookPath(name); err == nil {
		return bin, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if bin, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return bin, nil
		}
	}
	return "", wire.Errorf(wire.Unavailable, "%s is not installed", name).WithHint("apt-get install e2fsprogs")
}

// tail is the last of a program's output on one line.
func tail(out []byte) string {
	s := strings.Join(strings.Fields(string(out)), " ")
	if len(s) > 400 {
		s = "... " + s[len(s)-400:]
	}
	return s
}

// failed classifies a system error of work on path.
func failed(err error, path, format string, args ...any) error {
	doing := fmt.Sprintf(format, args...)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		dir := filepath.Dir(path)
		free := ""
		if n, err := Free(dir); err == nil {
			free = fmt.Sprintf(", %d MiB free", n>>20)
		}
		return wire.Errorf(wire.Exhausted, "%s: the disk is full (%q%s): %w", doing, dir, free, err).WithHint("bandsox image prune")
	case errors.Is(err, fs.ErrNotExist):
		return wire.Errorf(wire.NotFound, "%s: %w", doing, err)
	case errors.Is(err, fs.ErrExist):
		return wire.Errorf(wire.Conflict, "%s: %w", doing, err)
	case errors.Is(err, fs.ErrPermission):
		return wire.Errorf(wire.Denied, "%s: %w", doing, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return wire.Errorf(wire.Internal, "%s: %w", doing, err)
}
