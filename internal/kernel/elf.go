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
	head := make([]byte, 64)
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
			return facts{}, fmt.Errorf("cut short: a segment ends at byte %d, the file at %d", p.Off+p.Filesz, size)
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
