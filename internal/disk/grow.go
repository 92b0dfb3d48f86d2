package disk

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
)

// Grow makes the disk's file as large as sizeMiB, if it is smaller; it takes
// no more of the host's disk for it. The file system in it is as large as it
// was, until the guest's kernel grows it, which it can while it is in use.
func Grow(path string, sizeMiB int) error {
	doing := fmt.Sprintf("growing disk %q", path)
	if sizeMiB > MaxSizeMiB {
		return wire.Errorf(wire.Invalid, "%s: %d MiB is more than %d", doing, sizeMiB, MaxSizeMiB)
	}
	size := int64(sizeMiB) << 20
	fi, err := os.Stat(path)
	if err != nil {
		return failed(err, path, "%s", doing)
	}
	if fi.Size() >= size {
		return nil
	}
	if err := os.Truncate(path, size); errors.Is(err, syscall.EFBIG) {
		return wire.Errorf(wire.Invalid, "%s: the host's file system holds no file of %d MiB", doing, sizeMiB)
	} else if err != nil {
		return failed(err, path, "%s", doing)
	}
	return nil
}
