package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestBrokenPipe: output that nobody wants any more is no error to speak of, but
// a broken connection is.
func TestBrokenPipe(t *testing.T) {
	for _, c := range []struct {
		err   error
		code  int
		quiet bool
	}{
		{fmt.Errorf("printing: %w", &os.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.EPIPE}), 141, true},
		{&net.OpError{Op: "write", Net: "unix", Err: syscall.EPIPE}, exitError, false},
	} {
		var said bytes.Buffer
		if code := report(&said, c.err); code != c.code || (said.Len() == 0) != c.quiet {
			t.Errorf("%v: exit code %d, said %q", c.err, code, said.String())
		}
	}
}
