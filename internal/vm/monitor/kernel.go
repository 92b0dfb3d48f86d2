package monitor

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"

	"github.com/bandsox/bandsox/internal/wire"
)

// CheckKernel refuses what would fail later without a word: half a kernel, or,
// if the monitor starts it by its PVH entry point, one that has none.
func CheckKernel(path string, pvh bool) error {
	f, err := os.Open(path)
	if err != nil {
		code := wire.Unavailable
		if errors.Is(err, os.ErrNotExist) {
			code = wire.NotFound
		}
		return wire.Errorf(code, "opening the guest kernel: %w", err).WithHint("bandsox init")
	}
	defer f.Close()
	if err := bootable(f, pvh); err != nil {
		return wire.Errorf(wire.Invalid, "reading the guest kernel %q: %w", path, err).WithHint("bandsox init --force")
	}
	return nil
}

// bootable checks that all of an ELF kernel is there, and its PVH note.
func bootable(f *os.File, pvh bool) error {
	if runtime.GOARCH == "arm64" {
		magic := make([]byte, 4) // an Image, not an ELF
		if _, err := f.ReadAt(magic, 56); err != nil || string(magic) != "ARM\x64" {
			return errors.New("it is no arm64 Image")
		}
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var head elf.Header64
	order := binary.LittleEndian
	if err := binary.Read(io.NewSectionReader(f, 0, 64), order, &head); err != nil ||
		string(head.Ident[:elf.EI_DATA+1]) != elf.ELFMAG+"\x02\x01" || elf.Machine(head.Machine) != elf.EM_X86_64 {
		return errors.New("it is no vmlinux for x86-64")
	}
	if head.Phentsize != 56 || head.Phnum > 128 {
		return errors.New("its program headers make no sense")
	}
	progs := make([]elf.Prog64, head.Phnum)
	if err := binary.Read(io.NewSectionReader(f, int64(head.Phoff), 56*128), order, progs); err != nil {
		return errCut
	}
	hasEntry, loads := false, 0
	for _, p := range progs {
		if end := p.Off + p.Filesz; end < p.Off || end > uint64(info.Size()) {
			return errCut
		}
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			loads++
		case elf.PT_NOTE:
			hasEntry = hasEntry || hasPVH(io.NewSectionReader(f, int64(p.Off), int64(min(p.Filesz, 64<<10))))
		}
	}
	// The section headers come last in a vmlinux: with them, nothing is missing.
	if end := head.Shoff + uint64(head.Shnum)*uint64(head.Shentsize); end < head.Shoff || end > uint64(info.Size()) {
		return errCut
	}
	switch {
	case loads == 0:
		return errors.New("it has nothing to load")
	case pvh && !hasEntry:
		return errors.New("it has no PVH entry point: it was built without CONFIG_PVH")
	}
	return nil
}

var errCut = errors.New("it is cut short")

// hasPVH looks for the note XEN_ELFNOTE_PHYS32_ENTRY.
func hasPVH(r io.Reader) bool {
	notes, err := io.ReadAll(r)
	if err != nil {
		return false
	}
	const physEntry = 18
	order := binary.LittleEndian
	pad := func(n uint32) int { return (int(n) + 3) &^ 3 }
	for len(notes) >= 12 {
		name, desc, kind := order.Uint32(notes), order.Uint32(notes[4:]), order.Uint32(notes[8:])
		notes = notes[12:]
		if name > 1<<16 || desc > 1<<16 || pad(name)+pad(desc) > len(notes) {
			return false
		}
		if kind == physEntry && string(notes[:name]) == "Xen\x00" {
			return true
		}
		notes = notes[pad(name)+pad(desc):]
	}
	return false
}
