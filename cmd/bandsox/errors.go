package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/bandsox/bandsox"
)

// The exit codes of our own making, as docker, timeout and shells have them.
const (
	exitTimeout    = 124
	exitError      = 125
	exitNotRunning = 126
	exitNotFound   = 127
)

// exitCode ends the program with a code and prints nothing: what there was to
// say has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is bad input found by the CLI itself.
func usageError(format string, args ...any) error {
	return &bandsox.Error{Code: bandsox.CodeInvalid, Err: fmt.Errorf(format, args...)}
}

// report prints an error, if there is anything to print, and returns the code
// to exit with. It is the only place that does either.
func report(w io.Writer, err error) int {
	var code exitCode
	var file *fs.PathError
	var exit *bandsox.ExitError
	var e *bandsox.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &file) && (file.Path == os.Stdout.Name() || file.Path == os.Stderr.Name()) && errors.Is(err, syscall.EPIPE):
		// The reader has what it wanted. A server that goes away is another matter.
		return 128 + int(syscall.SIGPIPE)
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &exit):
		return reportExit(w, exit)
	}
	fmt.Fprintf(w, "error: %s\n", strings.TrimRight(err.Error(), "\n"))
	if !errors.As(err, &e) {
		fmt.Fprintln(w, "hint: see bandsox --help, or COMMAND --help") // flags and arguments: cobra's own
		return exitError
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", strings.ReplaceAll(e.Hint, "\n", "\n      "))
	}
	if e.Op == "exec" || e.Op == "python" {
		switch e.Code {
		case bandsox.CodeNotFound:
			return exitNotFound
		case bandsox.CodeInvalid, bandsox.CodeDenied:
			return exitNotRunning
		}
	}
	return exitError
}

// reportExit speaks only where the program itself could not.
func reportExit(w io.Writer, exit *bandsox.ExitError) int {
	switch {
	case exit.Timeout:
		fmt.Fprintf(w, "error: %v\n", exit)
		return exitTimeout
	case exit.OOM:
		fmt.Fprintf(w, "error: %v\nhint: give it more: --mem %d\n", exit, 2*exit.MemMiB)
	}
	return exit.Code
}
