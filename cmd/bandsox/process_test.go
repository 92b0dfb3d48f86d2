package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestDetachKeys: only Ctrl-P Ctrl-Q is kept from the program, in whatever
// pieces it is typed.
func TestDetachKeys(t *testing.T) {
	for typed, want := range map[string]string{
		"":                        "",
		"ab":                      "ab",
		"a\x10b":                  "a\x10b",
		"\x10\x10b\x11":           "\x10\x10b\x11",
		"ab\x10\x11never":         "ab",
		"a\x10\x10\x11never":      "a\x10",
		strings.Repeat("x", 9000): strings.Repeat("x", 9000),
	} {
		for _, pieces := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader,
		} {
			d := &detachKeys{r: pieces(strings.NewReader(typed)), left: make(chan struct{})}
			var got bytes.Buffer
			over := make(chan struct{})
			go func() { // is stuck for good where the program is left
				defer close(over)
				buf := make([]byte, 1000)
				for {
					n, err := d.Read(buf)
					got.Write(buf[:n])
					if err != nil {
						return
					}
				}
			}()
			left := strings.Contains(typed, "\x10\x11")
			select {
			case <-over:
				if left {
					t.Errorf("%q: not left", typed)
				}
			case <-d.left:
				if !left {
					t.Errorf("%q: left", typed)
				}
			}
			if got.String() != want {
				t.Errorf("%q became %q", typed, got.String())
			}
		}
	}
}

// TestAttachTerminal leaves a shell with Ctrl-P Ctrl-Q, joins it again, and
// opens another.
func TestAttachTerminal(t *testing.T) {
	l := newLab(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := l.command(args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("create", "--name", "box", l.image)
	id := run("exec", "-d", "-it", "box", "sh")
	s := l.screen(t, "attach", "box", id)
	s.says(t, "# ")
	s.lent(t)
	s.types(t, "mark=left-$((40+2)); stty size\r")
	s.says(t, "31 97\r\n")
	s.types(t, "\x10\x11")
	s.ends(t, inTime, 0)
	s.restored(t)

	s = l.screen(t, "attach", "--new", "box", id)
	s.types(t, "echo $mark; exit 5\r")
	s.says(t, "left-42\r\n")
	s.ends(t, inTime, 5)
	s.restored(t)

	s = l.screen(t, "terminal", "box")
	s.says(t, "# ")
	s.types(t, "echo size $(stty size); exit 6\r")
	s.says(t, "size 31 97\r\n")
	s.ends(t, inTime, 6)
	s.restored(t)
	run("rm", "-f", "box")
	l.nothingLeft(t)
}
