package disk

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
)

// Sizes of disks, in MiB.
const (
	MinSizeMiB = 16
	MaxSizeMiB = 1 << 20
)

// Create makes an empty disk: a journalled ext4 on a sparse file, with nothing
// left for the guest to initialise, that can grow online to any size we allow.
// It refuses to replace a file.
//
// It does not flush. The guest's first flush is an fsync of this very file; if
// the host crashes before, there was nothing on it yet that could be lost.
func Create(ctx context.Context, path string, sizeMiB int) error {
	doing := fmt.Sprintf("creating disk %q", path)
	if sizeMiB < MinSizeMiB || sizeMiB > MaxSizeMiB {
		return wire.Errorf(wire.Invalid, "%s: its size of %d MiB is not within %d and %d", doing, sizeMiB, MinSizeMiB, MaxSizeMiB)
	}
	mke2fs, err := tool("mke2fs")
	if err != nil {
		return err
	}
	if err := absent(path); err != nil {
		return failed(err, path, "%s", doing)
	}
	t, err := newTemp(path)
	if err != nil {
		return failed(err, path, "%s", doing)
	}
	defer t.discard()
	if err := t.Truncate(int64(sizeMiB) << 20); err != nil {
		return failed(err, path, "%s", doing)
	}
	out, err := format(ctx, mke2fs, t.Name(), sizeMiB, "lazy_itable_init=0,lazy_journal_init=0,nodiscard,assume_storage_prezeroed=1")
	if err != nil && bytes.Contains(out, []byte("assume_storage_prezeroed")) {
		// Before e2fsprogs 1.47 there was no way to say so. Lazy is as
		// small; the guest does the rest in the background.
		out, err = format(ctx, mke2fs, t.Name(), sizeMiB, "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
	}
	if err != nil {
		if ctx.Err() != nil {
			return failed(ctx.Err(), path, "%s", doing)
		}
		for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
			if bytes.Contains(bytes.ToLower(out), []byte(full.Error())) {
				return failed(full, path, "%s", doing)
			}
		}
		return wire.Errorf(wire.Internal, "%s: mke2fs: %w: %s", doing, err, tail(out))
	}
	if err := t.publish(publish{mode: 0o600}); err != nil {
		return failed(err, path, "%s", doing)
	}
	return nil
}

// format runs mke2fs. "-t ext4" is not its default: given a journal alone, it
// makes an ext3. A reserved resize inode would only cost space: the kernel
// grows a file system without one, too.
func format(ctx context.Context, mke2fs, path string, sizeMiB int, extended string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, mke2fs, "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^resize_inode",
		"-J", fmt.Sprintf("size=%d", journalMiB(sizeMiB)), "-E", extended, path)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	return cmd.CombinedOutput()
}

// journalMiB is 16, but never more than a quarter of a small disk.
func journalMiB(sizeMiB int) int { return min(16, max(4, sizeMiB/4)) }
