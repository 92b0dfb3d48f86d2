package monitor

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPipe: what nobody reads holds nobody up, and what is read comes to an end
// with the monitor.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	w, err := MakePipe(path)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 1000)
	_, _ = w.Write([]byte("first"))
	full := false
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 { // as a monitor writes, which doesn't wait
		_ = conn.Write(func(fd uintptr) bool {
			n, _ := unix.Write(int(fd), line)
			full = full || n <= 0
			return true
		})
	}
	if !full {
		t.Error("2 MB fit into a pipe")
	}
	var tail Tail
	var got bytes.Buffer
	r, err := ReadPipe(path, func(b []byte) { got.Write(b); tail.Keep(b) })
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	r.Wait()
	r.Close()
	if !strings.HasPrefix(got.String(), "firstxxx") {
		t.Errorf("got %.20q", got.String())
	}
	if n := len(tail.String()); n != tailKept {
		t.Errorf("the tail has %d bytes", n)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPipe(file, func([]byte) {}); err == nil {
		t.Error("a file was read as a pipe")
	}
}

// TestConsole: what is kept is the newest part, bounded, and follows no link.
func TestConsole(t *testing.T) {
	c := Console{Dir: t.TempDir()}
	line := strings.Repeat("x", 999) + "\n"
	for range 3000 {
		c.Keep([]byte(line))
	}
	c.Keep([]byte("[1.0] Kernel panic - not syncing: no \xff init\nmore\n"))
	r, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || len(b) < consoleHalf || len(b) > 2*consoleHalf+len(line) || !bytes.HasSuffix(b, []byte("more\n")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if why := c.Panic(); why != "no ? init" {
		t.Errorf("panic %q", why)
	}
	linked := Console{Dir: t.TempDir()}
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, linked.path(consoleFile)); err != nil {
		t.Fatal(err)
	}
	linked.Keep([]byte("x"))
	if _, err := os.Stat(target); err == nil {
		t.Error("a link was followed")
	}
}
