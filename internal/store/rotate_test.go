package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestRotating: the newest lines are kept, whole and in order, and no more than
// the bound.
func TestRotating(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("half a li"), 0o600); err != nil {
		t.Fatal(err)
	}
	const most, keep = 100, 2
	r, err := OpenRotating(path, most, keep)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	r.Rotated = func(f *os.File) {
		told++
		if f.Name() != path {
			t.Errorf("told of %s", f.Name())
		}
	}
	if _, err := r.Write([]byte("first\n")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "half a li\nfirst\n" {
		t.Errorf("half a line is continued: %q", b)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				if _, err := fmt.Fprintf(r, "%s\n", strings.Repeat("x", 30)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := r.Write([]byte("last\n")); err != nil {
		t.Fatal(err)
	}
	if told == 0 {
		t.Error("it was never told of a new file")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	paths := r.Paths()
	if len(paths) != keep+1 {
		t.Errorf("paths: %v", paths)
	}
	for i, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil || len(b) == 0 || len(b) > most || b[len(b)-1] != '\n' {
			t.Errorf("%s: %d bytes, %v", p, len(b), err)
		}
		if bytes.HasSuffix(b, []byte("last\n")) != (i == 0) {
			t.Errorf("%s: %q", p, b)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != keep+1 {
		t.Errorf("%v are left, %v", left, err)
	}
	// One line that is longer than the bound is a file of its own.
	if r, err = OpenRotating(path, most, keep); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Write(append(bytes.Repeat([]byte("y"), 2*most), '\n')); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); len(b) != 2*most+1 {
		t.Errorf("a long line: %d bytes", len(b))
	}
}
