package kernel

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// These make small kernels, modules and packages as the real tools would.

// elfKernel is a vmlinux of the given version that loads and does nothing.
type elfKernel struct {
	version string
	noPVH   bool
	config  string // built in, as with CONFIG_IKCONFIG
	pad     int    // more bytes
}

func (k elfKernel) bytes() []byte {
	le := binary.LittleEndian
	note := le.AppendUint32(nil, 4)
	note = le.AppendUint32(note, 4)
	note = le.AppendUint32(note, 18)
	note = append(note, "Xen\x00\x00\x10\x00\x00"...)
	if k.noPVH {
		note[8] = 17
	}
	body := append([]byte("Linux version "+k.version+" (someone@somewhere) #1 SMP\n\x00"), make([]byte, k.pad)...)
	if k.config != "" {
		body = append(body, "IKCFG_ST"...)
		body = append(body, gz([]byte(k.config))...)
		body = append(body, "IKCFG_ED"...)
	}
	const bodyOff = 64 + 2*56
	b := []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	b = le.AppendUint16(b, 2)  // ET_EXEC
	b = le.AppendUint16(b, 62) // EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, 0x1000000)
	b = le.AppendUint64(b, 64) // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 2, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	segment := func(typ uint32, off, size int) {
		b = le.AppendUint32(b, typ)
		b = le.AppendUint32(b, 5)
		for _, v := range []uint64{uint64(off), 0x1000000, 0x1000000, uint64(size), uint64(size), 4} {
			b = le.AppendUint64(b, v)
		}
	}
	segment(4, bodyOff, len(note))
	segment(1, bodyOff+len(note), len(body))
	return append(append(b, note...), body...)
}

// moduleELF is an object file whose .modinfo holds info.
func moduleELF(info ...string) []byte {
	le := binary.LittleEndian
	modinfo := []byte(strings.Join(info, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	b := []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	b = le.AppendUint16(b, 1) // ET_REL
	b = le.AppendUint16(b, 62)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, uint64(64+len(modinfo)+len(names))) // section headers
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 0, 0, 64, 3, 2} {
		b = le.AppendUint16(b, v)
	}
	b = append(append(b, modinfo...), names...)
	section := func(name, typ uint32, off, size int) {
		b = le.AppendUint32(b, name)
		b = le.AppendUint32(b, typ)
		for _, v := range []uint64{0, 0, uint64(off), uint64(size), 0, 1, 0} {
			b = le.AppendUint64(b, v)
		}
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, len(modinfo))
	section(10, 3, 64+len(modinfo), len(names))
	return b
}

// bzImage wraps a compressed kernel as arch/x86/boot does.
func bzImage(payload []byte, size int) []byte {
	le := binary.LittleEndian
	const setup = 2 // sectors after the first
	b := make([]byte, (setup+1)*512)
	b[0x1f1] = setup
	b[0x1fe], b[0x1ff] = 0x55, 0xaa
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x20f)
	const off = 0x100 // the decompressor comes first
	le.PutUint32(b[0x248:], off)
	le.PutUint32(b[0x24c:], uint32(len(payload)+4))
	b = append(b, bytes.Repeat([]byte{0x90}, off)...)
	b = append(b, payload...)
	b = le.AppendUint32(b, uint32(size))
	return append(b, "what follows the payload"...)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// compress makes b smaller with a named format, with the system's tool where
// no Go package writes it.
func compress(t testing.TB, format string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	switch format {
	case "none":
		return b
	case "gzip":
		return gz(b)
	case "zstd":
		w, _ := zstd.NewWriter(&out)
		w.Write(b)
		w.Close()
	case "lz4":
		w := lz4.NewWriter(&out)
		if err := w.Apply(lz4.LegacyOption(true)); err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		w.Close()
	default:
		args := map[string][]string{"xz": {"xz", "-c", "--check=crc32", "--x86", "--lzma2=dict=32MiB"}, "bzip2": {"bzip2", "-c"}}[format]
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Skipf("needs %s: not in PATH", args[0])
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout = bytes.NewReader(b), &out
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

type tarEntry struct {
	name, data string
	typ        byte
	link       string
	mode       int64
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.typ == 0 {
			e.typ = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Mode: e.mode, Size: int64(len(e.data))}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(e.data))
	}
	w.Close()
	return out.Bytes()
}

// arOf is an ar archive of name, data pairs.
func arOf(members ...string) []byte {
	b := []byte("!<arch>\n")
	for i := 0; i < len(members); i += 2 {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", members[i], 0, 0, 0, "100644", len(members[i+1]), members[i+1])
		if len(members[i+1])%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// debKernel is a package like Debian's cloud kernel.
func debKernel(t testing.TB, version, format string) []byte {
	t.Helper()
	k := elfKernel{version: version}.bytes()
	lib := "./lib/modules/" + version + "/"
	module := func(file string, info ...string) tarEntry {
		return tarEntry{name: lib + "kernel/" + file, data: string(moduleELF(info...))}
	}
	data := tarOf(t,
		tarEntry{name: "./boot/", typ: tar.TypeDir},
		tarEntry{name: "./boot/vmlinuz-" + version, data: string(bzImage(compress(t, "lz4", k), len(k)))},
		tarEntry{name: "./boot/config-" + version, data: "CONFIG_EXT4_FS=y\nCONFIG_OVERLAY_FS=m\n# CONFIG_PACKET is not set\n"},
		module("drivers/virtio/virtio.ko", "depends=virtio_ring"),
		module("drivers/virtio/virtio_ring.ko", "depends="),
		module("drivers/virtio/virtio_mmio.ko", "depends=virtio_ring,virtio"),
		module("drivers/block/virtio_blk.ko", "depends=virtio_ring,virtio"),
		module("drivers/char/virtio_console.ko", "depends=virtio_ring,virtio"),
		module("drivers/char/hw_random/virtio-rng.ko", "name=virtio_rng", "depends=virtio"),
		module("drivers/net/virtio_net.ko", "depends=net_failover,virtio", "softdep=pre: helper"),
		module("drivers/net/net_failover.ko", "depends=failover"),
		module("net/core/failover.ko", "depends="),
		module("lib/helper.ko", "depends="),
		module("fs/overlayfs/overlay.ko", "depends="),
		module("fs/never/asked.ko", "depends="),
		tarEntry{name: lib + "modules.builtin", data: "kernel/fs/ext4/ext4.ko\n"},
		tarEntry{name: lib + "kernel/evil.ko", typ: tar.TypeSymlink, link: "/etc/passwd"},
	)
	ext := map[string]string{"gzip": ".gz", "xz": ".xz", "zstd": ".zst", "none": ""}[format]
	return arOf("debian-binary", "2.0\n", "control.tar.gz", string(gz(tarOf(t))), "data.tar"+ext, string(compress(t, format, data)))
}
