package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/klauspost/compress/gzip"
)

// facts are what a kernel file says of itself.
type facts struct {
	Arch    string // GOARCH
	Version string // "6.1.0-56-cloud-amd64"; "" when it doesn't say
	PVH     bool   // has the entry that QEMU boots an ELF by
	config  []byte // the build's .config, when it carries it
}

// inspect checks that the file is a whole kernel and reads its facts.
func inspect(path string) (facts, error) {
	f, err := os.Open(path)
	if err != nil {
		return facts{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return facts{}, err
	}
	if err := checkLength(f, st.Size()); err != nil {
		return facts{}, err
	}
	head := make([]byte, elfHeader)
	if _, err := io.ReadFull(f, head); err != nil {
		return facts{}, notAKernel(errors.New("the file is too short"))
	}
	var k facts
	if isArm64Image(head) {
		k.Arch = "arm64"
		// image_size counts memory, bss included, so it bounds nothing here.
	} else if k, err = inspectELF(f, st.Size()); err != nil {
		return facts{}, notAKernel(err)
	}
	k.Version, k.config, err = scan(f, st.Size())
	return k, err
}

// Sizes of a 64 bit ELF file's header, and of one program header.
const (
	elfHeader     = 64
	elfProgHeader = 56
)

// checkLength tells an ELF file that lacks its end from one that is wrong: what
// was downloaded in part is the likeliest fault of a kernel. The section
// headers come last in one that the kernel's build made.
func checkLength(r io.ReaderAt, size int64) error {
	head := make([]byte, min(size, elfHeader))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return nil
	}
	want := uint64(elfHeader)
	reach := func(off, length uint64) {
		if off < maxVmlinux && length < maxVmlinux { // beyond is no kernel, cut or whole
			want = max(want, off+length)
		}
	}
	if len(head) == elfHeader {
		if head[elf.EI_CLASS] != byte(elf.ELFCLASS64) || head[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
			return nil
		}
		le := binary.LittleEndian
		progs, n := le.Uint64(head[32:]), uint64(le.Uint16(head[56:]))
		if n > 0 {
			reach(progs, n*elfProgHeader)
		}
		if sections := uint64(le.Uint16(head[60:])); sections > 0 {
			reach(le.Uint64(head[40:]), sections*uint64(le.Uint16(head[58:])))
		}
		if progs < maxVmlinux && le.Uint16(head[54:]) == elfProgHeader {
			b := make([]byte, n*elfProgHeader)
			got, _ := r.ReadAt(b, int64(progs)) // what is missing is in want already
			for b = b[:got]; len(b) >= elfProgHeader; b = b[elfProgHeader:] {
				reach(le.Uint64(b[8:]), le.Uint64(b[32:]))
			}
		}
	}
	if uint64(size) < want {
		return notAKernel(fmt.Errorf("a truncated ELF: %d of %d bytes", size, want))
	}
	return nil
}

func inspectELF(r io.ReaderAt, size int64) (facts, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return facts{}, fmt.Errorf("no ELF file: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 {
		return facts{}, fmt.Errorf("an ELF file for %v %v, not for 64 bit x86", f.Class, f.Machine)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return facts{}, fmt.Errorf("an ELF file of type %v, not a program", f.Type)
	}
	k := facts{Arch: "amd64"}
	loads := false
	for _, p := range f.Progs {
		if p.Off > uint64(size) || p.Filesz > uint64(size)-p.Off {
			return facts{}, fmt.Errorf("an ELF file of %d bytes with a segment of %d at byte %d", size, p.Filesz, p.Off)
		}
		switch p.Type {
		case elf.PT_LOAD:
			loads = true
		case elf.PT_NOTE:
			note := make([]byte, min(p.Filesz, 64<<10))
			if _, err := p.ReadAt(note, 0); err != nil && !errors.Is(err, io.EOF) {
				return facts{}, err
			}
			k.PVH = k.PVH || hasPVHNote(note)
		}
	}
	if !loads {
		return facts{}, errors.New("an ELF file with nothing to load")
	}
	return k, nil
}

// hasPVHNote looks for XEN_ELFNOTE_PHYS32_ENTRY among the notes of a segment.
func hasPVHNote(b []byte) bool {
	le := binary.LittleEndian
	for len(b) >= 12 {
		name, desc, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		b = b[12:]
		padded := (name+3)&^3 + (desc+3)&^3
		if padded > uint64(len(b)) {
			return false
		}
		if typ == 18 && bytes.HasPrefix(b[:name], []byte("Xen\x00")) {
			return true
		}
		b = b[padded:]
	}
	return false
}

var (
	versionRE = regexp.MustCompile(`Linux version (\d[0-9A-Za-z.+_~-]{1,127}) \(`)
	configTag = []byte("IKCFG_ST")
)

// scan searches a kernel for its version, and for its configuration, which is
// there as gzip data when it was built with CONFIG_IKCONFIG.
func scan(r io.ReaderAt, size int64) (version string, config []byte, err error) {
	const window, overlap = 1 << 20, 256
	buf := make([]byte, window)
	for off := int64(0); off < size && (version == "" || config == nil); off += window - overlap {
		n, err := r.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", nil, err
		}
		if v := versionRE.FindSubmatch(buf[:n]); v != nil && version == "" {
			version = string(v[1])
		}
		if i := bytes.Index(buf[:n], configTag); i >= 0 && config == nil {
			start := off + int64(i+len(configTag))
			config = ikconfig(io.NewSectionReader(r, start, size-start))
		}
	}
	return version, config, nil
}

func ikconfig(r io.Reader) []byte {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil // the mark was there by chance
	}
	z.Multistream(false)
	b, err := io.ReadAll(bounded(z, 4<<20))
	if err != nil {
		return nil
	}
	return b
}
