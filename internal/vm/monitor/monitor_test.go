package monitor

import (
	"bytes"
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
