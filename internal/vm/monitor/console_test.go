package monitor

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConsoleFiles: what is kept is the newest part, and bounded.
func TestConsoleFiles(t *testing.T) {
	c := Console{Dir: t.TempDir()}
	if r, err := c.Open(); err != nil {
		t.Fatal(err)
	} else if b, _ := io.ReadAll(r); len(b) != 0 {
		t.Errorf("an empty console has %q", b)
	}
	line := strings.Repeat("x", 999) + "\n"
	for range 5000 {
		if err := c.append([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.append([]byte("[1.0] Kernel panic - not syncing: no \xff init\nmore\n")); err != nil {
		t.Fatal(err)
	}
	r, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < consoleHalf || len(b) > 2*consoleHalf+len(line) || !bytes.HasSuffix(b, []byte("more\n")) {
		t.Errorf("%d bytes, ending in %q", len(b), b[max(0, len(b)-20):])
	}
	if why := c.Panic(); why != "no ? init" {
		t.Errorf("panic %q", why)
	}
}

// TestConsoleFollowsNoLink: nobody makes us write elsewhere.
func TestConsoleFollowsNoLink(t *testing.T) {
	c := Console{Dir: t.TempDir()}
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, c.path(consoleFile)); err != nil {
		t.Fatal(err)
	}
	if err := c.append([]byte("x")); err == nil {
		t.Error("a link was followed")
	}
	c.Keep([]byte("x"))
	if _, err := os.Stat(target); err == nil {
		t.Error("its target was made")
	}
}
