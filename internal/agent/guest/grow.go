package guest

import (
	"encoding/binary"
	"io"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// ext4Resize is EXT4_IOC_RESIZE_FS: it takes the new number of blocks.
const ext4Resize = 0x40086610

// growPatience is how long the kernel may take to see that a drive has grown.
const growPatience = 10 * time.Second

// grow waits until the disk's device has this size, and makes its file system
// as large as that. It returns the device's size.
func grow(disk *os.File, size int64) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(disk.Fd()), &st); err != nil {
		return 0, wire.Errorf(wire.Internal, "growing the disk: %w", err)
	}
	path := "/sys/dev/block/" + strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev))) + "/size"
	var have int64
	for end := time.Now().Add(growPatience); ; time.Sleep(2 * time.Millisecond) {
		sectors, err := strconv.ParseInt(field(readKernel(path), 0), 10, 64)
		if err != nil {
			return 0, wire.Errorf(wire.Internal, "growing the disk: %s has no number in it", path)
		}
		if have = sectors * 512; have >= size {
			break
		}
		if time.Now().After(end) {
			return have, wire.Errorf(wire.Timeout, "growing the disk: its device has %d bytes still, and not %d", have, size)
		}
	}
	blocks := uint64(have) / uint64(st.Blksize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), ext4Resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return have, wire.Errorf(wire.Internal, "growing the disk's file system to %d blocks: %w", blocks, errno)
	}
	return have, nil
}

// outgrown tells whether the device is larger than the file system on it,
// which has just been mounted. Asking the kernel to grow what is large enough
// takes it 26 ms, in every boot; looking at the superblock takes nothing.
func outgrown(device string) bool {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	const at, low, high, shift = 1024, 0x4, 0x150, 0x18 // of the superblock, and in it
	var sb [0x154]byte
	if n, err := unix.Pread(fd, sb[:], at); err != nil || n < len(sb) {
		return false
	}
	word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(sb[i:])) }
	size, err := unix.Seek(fd, 0, io.SeekEnd)
	return err == nil && word(high)<<32|word(low) < uint64(size)>>(10+word(shift))
}

func (s *service) growDisk(size int64) (int64, error) {
	switch {
	case s.cfg.Disk != nil:
		return grow(s.cfg.Disk, size)
	case s.cfg.Fake: // its files are the host's
		return size, nil
	}
	return 0, wire.Errorf(wire.Unavailable, "growing the disk: this guest has none")
}
