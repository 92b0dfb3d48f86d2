package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Where an ext4 superblock has what we read of it.
const (
	superblockAt    = 1024
	magicAt         = 0x38
	incompatAt      = 0x60
	ext4Magic       = 0xEF53
	incompatRecover = 0x4
)

// NeedsRecovery says whether a disk's journal holds what its file system does
// not have yet: its machine was cut off. Such a disk can't be mounted without
// being written to.
func NeedsRecovery(path string) (bool, error) {
	doing := fmt.Sprintf("looking at disk %q", path)
	f, err := os.Open(path)
	if err != nil {
		return false, failed(err, path, "%s", doing)
	}
	defer f.Close()
	var sb [incompatAt + 4]byte
	if _, err = f.ReadAt(sb[:], superblockAt); err == nil && binary.LittleEndian.Uint16(sb[magicAt:]) != ext4Magic {
		err = errors.New("it holds no ext4 file system")
	}
	if err != nil {
		return false, failed(err, path, "%s", doing)
	}
	return binary.LittleEndian.Uint32(sb[incompatAt:])&incompatRecover != 0, nil
}
