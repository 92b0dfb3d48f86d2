package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// The bits of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61 // or of shared memory: not private to the process
)

// memory is a guest's memory where it lies in QEMU's, and the file that it is
// saved to.
type memory struct {
	pagemap  *os.File
	mem      *os.File
	out      *os.File
	base     uint64 // its address there
	size     int64
	restored bool // out holds a copy of what it was restored from
}

// openMemory finds the guest's memory, and opens what it takes to read it. QEMU
// is asked for its address: the kernel may have joined its mapping with others.
func (m *machine) openMemory(ctx context.Context, path string) (_ *memory, err error) {
	mm := &memory{restored: m.handle.Memory != ""}
	defer func() {
		if err != nil {
			err = errors.Join(err, mm.Close())
		}
	}()
	var size struct {
		Base int64 `json:"base-memory"`
	}
	if err := m.do(ctx, "query-memory-size-summary", nil, &size); err != nil {
		return nil, err
	}
	mm.size = size.Base
	var words string // "Host virtual address for 0x0 (ram) is 0x7f3b5fe00000"
	err = m.do(ctx, "human-monitor-command", map[string]string{"command-line": fmt.Sprintf("gpa2hva %#x", guest.ram)}, &words)
	if err != nil {
		return nil, err
	}
	f := strings.Fields(words)
	if len(f) > 0 {
		mm.base, err = strconv.ParseUint(f[len(f)-1], 0, 64)
	}
	if len(f) == 0 || err != nil || !strings.Contains(words, "(ram)") || mm.base%uint64(os.Getpagesize()) != 0 {
		return nil, fmt.Errorf("QEMU does not say where the guest's memory is, but %q", strings.TrimSpace(words))
	}
	if mm.pagemap, err = os.Open(monitor.ProcPath(m.proc.PID, "pagemap")); err != nil {
		return nil, err
	}
	if mm.mem, err = os.Open(monitor.ProcPath(m.proc.PID, "mem")); err != nil {
		return nil, unreadable(err)
	}
	// The process can't have ended and its number gone to another: then the files
	// are those of a process that is not there.
	if start, err := monitor.StartTime(m.proc.PID); err != nil || start != m.proc.Start {
		return nil, fmt.Errorf("process %d is gone", m.proc.PID)
	}
	flags := os.O_RDWR
	if !mm.restored {
		flags |= os.O_CREATE | os.O_EXCL
	}
	if mm.out, err = os.OpenFile(path, flags, 0o600); err != nil {
		return nil, err
	}
	if !mm.restored {
		return mm, mm.out.Truncate(mm.size)
	}
	if info, err := mm.out.Stat(); err != nil || info.Size() != mm.size {
		return nil, fmt.Errorf("%q is no copy of the memory that the machine was restored from", path)
	}
	return mm, nil
}

// unreadable explains what keeps a user from reading the memory of a process of
// his own.
func unreadable(err error) error {
	if scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); errors.Is(err, os.ErrPermission) && len(scope) > 0 && scope[0] > '0' {
		return wire.Errorf(wire.Denied, "reading the memory of QEMU, which another process started: %w", err).
			WithHint("sudo sysctl kernel.yama.ptrace_scope=0")
	}
	return err
}

// Close closes what is open.
func (mm *memory) Close() error {
	var errs []error
	for _, f := range []*os.File{mm.pagemap, mm.mem, mm.out} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// memoryChunk is how much is read at once, at most.
const memoryChunk = 1 << 20

// save writes the pages that are the machine's own into the file: of one that
// was restored those that it has written to, of one that was booted all there
// are. Those that are zero stay holes where there was nothing before.
func (mm *memory) save(ctx context.Context) error {
	page := int64(os.Getpagesize())
	entries := make([]byte, 8*memoryChunk/page)
	buf := make([]byte, memoryChunk)
	for at := int64(0); at < mm.size; at += memoryChunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		pages := min(memoryChunk, mm.size-at) / page
		_, err := mm.pagemap.ReadAt(entries[:8*pages], (int64(mm.base)+at)/page*8)
		if err != nil {
			return fmt.Errorf("reading the page map: %w", err)
		}
		for i := int64(0); i < pages; {
			n := mm.run(entries[8*i : 8*pages])
			if n == 0 {
				i++
				continue
			}
			b := buf[:n*page]
			if _, err := mm.mem.ReadAt(b, int64(mm.base)+at+i*page); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("reading the guest's memory: %w", err)
			}
			if err := mm.write(b, at+i*page, int(page)); err != nil {
				return err
			}
			i += n
		}
	}
	return nil
}

// run is how many pages from the first on are the machine's own.
func (mm *memory) run(entries []byte) (n int64) {
	for ; len(entries) >= 8; entries = entries[8:] {
		e := binary.NativeEndian.Uint64(entries)
		if e&(pagePresent|pageSwapped) == 0 || mm.restored && e&pageOfFile != 0 {
			break
		}
		n++
	}
	return n
}

// write puts pages into the file, and leaves out what is zero there and here.
func (mm *memory) write(b []byte, at int64, page int) error {
	for len(b) > 0 {
		n := 0
		for n < len(b) && (mm.restored || !bytes.Equal(b[n:n+page], zeroPage[:page])) {
			n += page
		}
		if n > 0 {
			if _, err := mm.out.WriteAt(b[:n], at); err != nil {
				return err
			}
		} else {
			n = page
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

var zeroPage [64 << 10]byte
