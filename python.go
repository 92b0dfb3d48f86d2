package bandsox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// PythonOptions says how to run Python code. The zero value works.
type PythonOptions struct {
	Args []string // sys.argv[1:]
	// Filename is what the code calls itself, in tracebacks and sys.argv[0].
	// Default: <python>.
	Filename string

	Env  []string // KEY=value, over the sandbox's and the image's
	Dir  string   // absolute; default: the image's working directory, else /
	User string   // as Cmd.User

	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer // nil: discarded

	// Timeout is for all of it. What runs out of time ends with an ExitError
	// whose Timeout is set, or an ErrTimeout if the sandbox says nothing. 0: none.
	Timeout time.Duration

	// Packages are to be installed first. That needs a network, which sandboxes
	// don't have yet: a non-empty list is ErrUnavailable.
	Packages []string
}

// python is what the interpreter is given to run: it reads the code from the
// head of its input, leaves the rest to the code, and shows no trace of itself
// in tracebacks. The code is neither a shell's word nor an argument, whose
// length the kernel limits, nor a file that someone would have to remove.
// Python 2 can run it, too.
const python = `def run():
    import linecache, os, sys
    left, name = int(sys.argv[1]), sys.argv[2]
    parts = []
    while left > 0:
        part = os.read(0, min(left, 1 << 20))
        if not part:
            sys.exit("the code broke off")
        parts.append(part)
        left -= len(part)
    code = b"".join(parts)
    lines = code.decode("utf-8", "replace").splitlines(True)
    linecache.cache[name] = (len(code), None, lines, name)
    sys.argv = [name] + sys.argv[3:]
    space = sys.modules["__main__"].__dict__
    del space["run"]
    try:
        exec(compile(code, name, "exec", 0, True), space)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        kind, error, trace = sys.exc_info()
        error.__traceback__ = trace.tb_next
        show = sys.excepthook
        if show is sys.__excepthook__: # which reads source from files alone
            import traceback
            show = traceback.print_exception
        show(kind, error, trace.tb_next)
        sys.exit(1)
run()
`

// pythonTimeoutSlack is how much longer than its timeout a guest may take to
// say that the time is up.
const pythonTimeoutSlack = 5 * time.Second

// Python runs code with the sandbox's python3, or python where there is none,
// and waits for it. Its error is as Cmd.Run's.
func (sb *Sandbox) Python(ctx context.Context, code string, o PythonOptions) error {
	if len(o.Packages) > 0 {
		return fail("python", sb.id, wire.Errorf(CodeUnavailable, "packages can't be installed: sandboxes have no network yet").
			WithHint("use an image that has them, without packages"))
	}
	name := o.Filename
	if name == "" {
		name = "<python>"
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Timeout+pythonTimeoutSlack,
			wire.Errorf(CodeTimeout, "the sandbox said nothing for %v after the timeout of %v", pythonTimeoutSlack, o.Timeout))
		defer cancel()
	}
	began := time.Now()
	args := append([]string{"-c", python, strconv.Itoa(len(code)), name}, o.Args...)
	run := func(program string) error {
		cmd := sb.Command(program, args...)
		cmd.makeDir = true
		cmd.Env, cmd.Dir, cmd.User = o.Env, o.Dir, o.User
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(code), o.Stdout, o.Stderr
		if o.Stdin != nil {
			cmd.Stdin = io.MultiReader(cmd.Stdin, o.Stdin)
		}
		if o.Timeout > 0 {
			cmd.Timeout = max(o.Timeout-time.Since(began), time.Millisecond)
		}
		return cmd.Run(ctx)
	}
	err := run("python3")
	if noProgram(err, "python3") {
		if err = run("python"); noProgram(err, "python") {
			err = wire.Errorf(CodeNotFound, "there is no Python in this image").
				WithHint("use an image that has it, such as python:3-alpine or bandsox/base")
		}
	}
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		return err
	}
	return fail("python", sb.id, err)
}

// noProgram tells whether it was the program that wasn't found, and not, say,
// the directory or the user.
func noProgram(err error, name string) bool {
	return errors.Is(err, ErrNotFound) && strings.Contains(err.Error(), `starting "`+name+`"`)
}

// PythonResult is how Python code ended, whatever happened.
type PythonResult struct {
	ExitCode int    `json:"exit_code"` // -1: it did not run, or nobody knows how it ended
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	Output   string `json:"output"` // both, in the order in which they were read
	Success  bool   `json:"success"`
	Error    string `json:"error,omitempty"` // why not Success: stderr, or what went wrong around it
	TimedOut bool   `json:"timed_out,omitempty"`
	OOM      bool   `json:"oom,omitempty"`
	Code     Code   `json:"code,omitempty"` // the class of an error that isn't the code's own
	Hint     string `json:"hint,omitempty"`
}

// PythonCapture is Python that keeps the output, up to 64 MiB of it, and
// returns what went wrong, if anything, as part of its result. What goes to
// o.Stdout and o.Stderr comes there, too.
func (sb *Sandbox) PythonCapture(ctx context.Context, code string, o PythonOptions) PythonResult {
	return o.Capture(func(o PythonOptions) error { return sb.Python(ctx, code, o) })
}

// Capture is what PythonCapture makes of Python, for who runs it another way:
// over a network, say.
func (o PythonOptions) Capture(run func(PythonOptions) error) PythonResult {
	var out, errs, both capture
	o.Stdout = io.MultiWriter(&out, &both, orDiscard(o.Stdout))
	o.Stderr = io.MultiWriter(&errs, &both, orDiscard(o.Stderr))
	err := run(o)
	r := PythonResult{Stdout: out.String(), Stderr: errs.String(), Output: both.String(), Success: err == nil}
	var exit *ExitError
	var e *Error
	switch {
	case err == nil:
		return r
	case errors.As(err, &exit):
		r.ExitCode, r.TimedOut, r.OOM, r.Error = exit.Code, exit.Timeout, exit.OOM, r.Stderr
		if r.Error == "" || exit.Timeout || exit.OOM {
			r.Error = strings.TrimLeft(r.Stderr+"\n"+exit.Error(), "\n")
		}
	case errors.As(err, &e):
		r.ExitCode, r.TimedOut, r.Error, r.Code, r.Hint = -1, e.Code == CodeTimeout, err.Error(), e.Code, e.Hint
	default:
		r.ExitCode, r.Error = -1, err.Error()
	}
	return r
}

// maxCapture bounds each output that is kept; what comes after is lost.
const maxCapture = 64 << 20

// capture keeps the beginning of what is written to it.
type capture struct{ bytes.Buffer }

func (c *capture) Write(b []byte) (int, error) {
	c.Buffer.Write(b[:min(len(b), maxCapture-c.Len())])
	return len(b), nil
}

// String is what was kept, as text.
func (c *capture) String() string { return strings.ToValidUTF8(c.Buffer.String(), "\uFFFD") }
