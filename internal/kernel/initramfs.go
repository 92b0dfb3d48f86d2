package kernel

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Driver sets for [WriteInitramfs]. Each module costs some 15 ms of boot and
// guest memory, so a machine carries those that it has devices for.
var (
	// MicroVM is for QEMU's microvm machine without a network card.
	MicroVM = []string{"virtio_mmio", "virtio_blk", "virtio_console", "overlay", "ext4"}
	// Net is what a network card needs beside them.
	Net = []string{"virtio_net", "af_packet"}
)

// WriteInitramfs makes at path the root file system that a guest starts from:
// the agent as /init, the modules that the drivers in want need (nil =
// [MicroVM]; those built into the kernel or unknown to it are left out), the
// order to load them in as /modules/order, and the first device nodes and
// mount points. It isn't compressed: that gains nothing at boot.
//
// The same agent, kernel and drivers give the same bytes.
func WriteInitramfs(path string, agent []byte, k *Kernel, want []string) error {
	if !bytes.HasPrefix(agent, []byte("\x7fELF")) {
		return wire.Errorf(wire.Invalid, "writing the initramfs: the agent isn't a Linux program")
	}
	if want == nil {
		want = MicroVM
	}
	for _, name := range want {
		if k.Drivers[name] == Missing {
			return wire.Errorf(wire.NotFound, "writing the initramfs: the kernel %s lacks %s", k.Version, name).WithHint(initHint + " --force")
		}
	}
	mods := k.closure(want)
	err := writeAtomic(path, 0o644, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 256<<10)
		if err := k.initramfs(w, agent, mods); err != nil {
			return err
		}
		return w.Flush()
	})
	return fail(err, "writing the initramfs %q", path)
}

// initramfs writes entries sorted by name, which puts directories before what
// is in them.
func (k *Kernel) initramfs(w *bufio.Writer, agent []byte, mods []Module) error {
	c := &cpioWriter{w: w}
	c.dir("dev")
	c.char("dev/console", 0o600, 5, 1) // without it PID 1 has no standard output
	c.char("dev/kmsg", 0o600, 1, 11)
	c.char("dev/null", 0o666, 1, 3) // Go programs refuse to start without it
	c.file("init", 0o755, agent)
	c.dir("modules")
	var order strings.Builder
	files := []string{orderFile}
	for _, m := range mods {
		order.WriteString(m.File + "\n")
		files = append(files, m.File)
	}
	for _, name := range slices.Sorted(slices.Values(files)) {
		b := []byte(order.String())
		if name != orderFile {
			var err error
			if b, err = os.ReadFile(filepath.Join(k.Modules, name)); err != nil {
				return err
			}
		}
		c.file("modules/"+name, 0o644, b)
	}
	for _, d := range []string{"newroot", "proc", "run", "sys", "tmp"} {
		c.dir(d)
	}
	return c.close()
}

// closure is the modules that the named drivers need, in an order in which
// they load.
func (k *Kernel) closure(names []string) []Module {
	by := map[string]Module{}
	for _, m := range k.Load {
		by[m.Name] = m
	}
	needed := map[string]bool{}
	var need func(string)
	need = func(n string) {
		if m, ok := by[n]; ok && !needed[n] {
			needed[n] = true
			for _, d := range m.Deps {
				need(d)
			}
		}
	}
	for _, n := range names {
		need(n)
	}
	var out []Module
	for _, m := range k.Load {
		if needed[m.Name] {
			out = append(out, m)
		}
	}
	return out
}
