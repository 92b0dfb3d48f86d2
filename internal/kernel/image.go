package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/bandsox/bandsox/internal/wire"
)

// maxVmlinux bounds an uncompressed kernel. Debian's cloud kernel has 53 MiB,
// one with all debug information about 800.
const maxVmlinux = 1 << 30

// extract writes the bootable kernel in the file src to dst: an ELF vmlinux
// for amd64, a flat Image for arm64. src may be either, compressed or not, or
// wrapped as a bzImage or as an EFI zboot image.
func extract(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	body, err := payload(in, st.Size())
	if err != nil {
		return err
	}
	z, err := decompress(body)
	if err != nil {
		return notAKernel(err)
	}
	defer z.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := transfer(out, bounded(z, maxVmlinux), notAKernel); err != nil {
		return err
	}
	return errors.Join(out.Sync(), out.Close())
}

func notAKernel(err error) error {
	return wire.Errorf(wire.Invalid, "not a usable kernel: %w", err)
}

// payload finds the part of a kernel file that holds the kernel proper.
func payload(f io.ReaderAt, size int64) (io.Reader, error) {
	head := make([]byte, 0x260)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	off, length := int64(0), size
	switch {
	case isBzImage(head):
		if off, length, err = bzPayload(head); err != nil {
			return nil, notAKernel(err)
		}
	case len(head) >= 64 && string(head[:2]) == "MZ" && string(head[4:8]) == "zimg":
		off, length = int64(binary.LittleEndian.Uint32(head[8:])), int64(binary.LittleEndian.Uint32(head[12:]))
	case bytes.HasPrefix(head, []byte("\x7fELF")), isArm64Image(head), compression(head) != "":
	case size == 0:
		return nil, notAKernel(errors.New("the file is empty"))
	default:
		return nil, notAKernel(errors.New("neither an ELF vmlinux, nor a bzImage, nor an arm64 Image, nor a .deb"))
	}
	if off > size || length > size-off {
		return nil, notAKernel(fmt.Errorf("cut short: its header tells of %d bytes, the file has %d", off+length, size))
	}
	return io.NewSectionReader(f, off, length), nil
}

func isBzImage(head []byte) bool {
	return len(head) >= 0x250 && string(head[0x202:0x206]) == "HdrS" && head[0x1fe] == 0x55 && head[0x1ff] == 0xaa
}

// bzPayload reads the x86 boot protocol's setup header
// (Documentation/arch/x86/boot.rst). The payload's last four bytes are its
// uncompressed size, which only lz4's reader must not see: its legacy frame
// has no end mark.
func bzPayload(head []byte) (off, length int64, err error) {
	le := binary.LittleEndian
	if v := le.Uint16(head[0x206:]); v < 0x208 {
		return 0, 0, fmt.Errorf("a bzImage of boot protocol %d.%02d, older than 2.08, doesn't say where its kernel is", v>>8, v&0xff)
	}
	sectors := int64(head[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	off = (sectors+1)*512 + int64(le.Uint32(head[0x248:]))
	length = int64(le.Uint32(head[0x24c:]))
	if length <= 4 {
		return 0, 0, errors.New("a bzImage without a payload")
	}
	return off, length - 4, nil
}

func isArm64Image(head []byte) bool {
	return len(head) >= 64 && string(head[56:60]) == "ARM\x64"
}
