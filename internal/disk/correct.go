package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Where ext4 has its things; all little-endian.
const (
	blockSize = 4096
	inodeSize = 256
	descSize  = 32

	superAt          = 1024
	superInodes      = 0
	superGroupInodes = 40
	superMagic       = 56
	superUUID        = 104
	superLabel       = 120

	descInodeBitmap = 4
	descInodeTable  = 8

	inodeXattrBlock = 104
	xattrMagic      = 0xEA020000
	xattrEntries    = 32
)

// label names a base to whoever finds the file.
const label = "bandsox-base"

// inodeTimes are where an inode's times have their high bits and nanoseconds.
var inodeTimes = [...]int{132, 136, 140, 148}

// badNanoseconds is what the ext4 writer makes of a negative time: see fsTime.
const badNanoseconds = 1<<30 - 1

var errLayout = errors.New("the ext4 writer made no file system that we know")

// file is what a base is corrected in.
type file interface {
	io.ReaderAt
	io.WriterAt
}

// correct mends in place what hcsshim's ext4 writer leaves wrong, reading only
// the inode tables:
//
//   - bits of inode bitmaps that stand for no inode must be set, or e2fsck
//     complains;
//   - names in an xattr block must be sorted, or the kernel does not find
//     some of them;
//   - nanoseconds of times from 2310 to 2378 are none;
//   - without a UUID overlayfs does not trust the base's inode numbers, and
//     files would change theirs when first written to.
func correct(f file, id [16]byte) error {
	le := binary.LittleEndian
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, superAt); err != nil {
		return err
	}
	inodes, perGroup := le.Uint32(super[superInodes:]), le.Uint32(super[superGroupInodes:])
	if le.Uint16(super[superMagic:]) != 0xEF53 || perGroup == 0 || perGroup > 8*blockSize || perGroup%8 != 0 || inodes%perGroup != 0 {
		return errLayout
	}
	desc := make([]byte, int(inodes/perGroup)*descSize)
	if _, err := f.ReadAt(desc, blockSize); err != nil {
		return err
	}
	pad := bytes.Repeat([]byte{0xff}, blockSize-int(perGroup/8))
	table := make([]byte, perGroup*inodeSize)
	for ; len(desc) > 0; desc = desc[descSize:] {
		at := int64(le.Uint32(desc[descInodeBitmap:])) * blockSize
		if _, err := f.WriteAt(pad, at+int64(perGroup/8)); err != nil {
			return err
		}
		tableAt := int64(le.Uint32(desc[descInodeTable:])) * blockSize
		if _, err := f.ReadAt(table, tableAt); err != nil {
			return err
		}
		for ino := table; len(ino) > 0; ino = ino[inodeSize:] {
			if clearNanoseconds(ino) {
				if _, err := f.WriteAt(ino[:inodeSize], tableAt+int64(len(table)-len(ino))); err != nil {
					return err
				}
			}
			if block := le.Uint32(ino[inodeXattrBlock:]); block != 0 {
				if err := sortXattrs(f, int64(block)*blockSize); err != nil {
					return err
				}
			}
		}
	}
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562, version 8
	copy(super[superUUID:], id[:])
	copy(super[superLabel:superLabel+16], label)
	_, err := f.WriteAt(super, superAt)
	return err
}

// clearNanoseconds says whether it changed the inode.
func clearNanoseconds(ino []byte) (changed bool) {
	le := binary.LittleEndian
	for _, at := range inodeTimes {
		if extra := le.Uint32(ino[at:]); extra>>2 == badNanoseconds {
			le.PutUint32(ino[at:], extra&3)
			changed = true
		}
	}
	return changed
}

// sortXattrs puts the names in an xattr block into the order that the
// kernel's search relies on: namespace, length, bytes. Values stay where they
// are.
func sortXattrs(f file, at int64) error {
	block := make([]byte, blockSize)
	if _, err := f.ReadAt(block, at); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(block) != xattrMagic {
		return errLayout
	}
	type name struct{ raw, text []byte }
	var names []name
	end := xattrEntries
	for le.Uint32(block[end:]) != 0 {
		n := 16 + (int(block[end])+3)&^3
		if end+n+4 > blockSize {
			return errLayout
		}
		raw := bytes.Clone(block[end : end+n])
		names = append(names, name{raw, raw[16 : 16+raw[0]]})
		end += n
	}
	slices.SortFunc(names, func(a, b name) int {
		return cmp.Or(cmp.Compare(a.raw[1], b.raw[1]), cmp.Compare(a.raw[0], b.raw[0]), bytes.Compare(a.text, b.text))
	})
	sorted := block[xattrEntries:xattrEntries]
	for _, n := range names {
		sorted = append(sorted, n.raw...)
	}
	_, err := f.WriteAt(block[:end], at)
	return err
}
