package kernel

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// cpioWriter writes the "newc" archives that Linux unpacks as its first root
// file system (Documentation/driver-api/early-userspace/buffer-format.rst).
// Owners and times are zero and inodes are counted, so equal files in equal
// order give equal bytes.
type cpioWriter struct {
	w   io.Writer
	ino int
	err error
}

// Types of a newc entry's mode.
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioChar = 0o020000
)

func (c *cpioWriter) dir(name string)                      { c.entry(name, cpioDir|0o755, 0, 0, nil) }
func (c *cpioWriter) file(name string, mode int, b []byte) { c.entry(name, cpioFile|mode, 0, 0, b) }
func (c *cpioWriter) char(name string, mode, maj, min int) {
	c.entry(name, cpioChar|mode, maj, min, nil)
}

// entry writes one. The first error sticks.
func (c *cpioWriter) entry(name string, mode, major, minor int, data []byte) {
	if c.err == nil && !cpioName(name) {
		c.err = fmt.Errorf("%q can't be a name in an initramfs", name)
	}
	if c.err == nil && int64(len(data)) > 0xffffffff {
		c.err = fmt.Errorf("%q is too big for an initramfs", name)
	}
	c.ino++
	links := 1
	if mode&cpioDir != 0 && mode&cpioFile == 0 {
		links = 2
	}
	c.record(c.ino, mode, links, major, minor, name, data)
}

// cpioName accepts relative, clean names below the root.
func cpioName(name string) bool {
	return name != "" && len(name) < 4096 && name == path.Clean(name) && name[0] != '/' &&
		name != "." && name != ".." && !strings.HasPrefix(name, "../") &&
		!strings.ContainsRune(name, 0) && name != cpioEnd
}

const cpioEnd = "TRAILER!!!"

// close ends the archive.
func (c *cpioWriter) close() error {
	c.record(0, 0, 1, 0, 0, cpioEnd, nil)
	return c.err
}

// record writes a header, the name and the data, each padded to four bytes.
func (c *cpioWriter) record(ino, mode, links, major, minor int, name string, data []byte) {
	if c.err != nil {
		return
	}
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		ino, mode, 0, 0, links, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	c.write([]byte(head))
	c.write(make([]byte, -len(head)&3))
	c.write(data)
	c.write(make([]byte, -len(data)&3))
}

func (c *cpioWriter) write(b []byte) {
	if c.err == nil && len(b) > 0 {
		_, c.err = c.w.Write(b)
	}
}
