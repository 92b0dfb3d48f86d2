package bandsox

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pythonSandbox is one whose programs are this host's, so that it has its Python.
func pythonSandbox(t *testing.T) *Sandbox {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3: apt-get install python3")
	}
	return create(t, newManager(t, t.TempDir()), CreateOptions{Env: map[string]string{"FROM_CREATE": "yes"}})
}

func TestPython(t *testing.T) {
	t.Parallel()
	sb := pythonSandbox(t)
	ctx := t.Context()
	var out, errs bytes.Buffer
	err := sb.Python(ctx, "import os, sys\nprint(sys.argv, __name__, os.environ['FROM_CREATE'], os.environ['X'], os.path.basename(os.getcwd()))\n"+
		"print(sys.stdin.read(), file=sys.stderr, end='')", PythonOptions{
		Args: []string{"a b", "$c"}, Env: []string{"X=1"}, Dir: "/some/where",
		Stdin: strings.NewReader("the rest"), Stdout: &out, Stderr: &errs})
	if err != nil || out.String() != "['<python>', 'a b', '$c'] __main__ yes 1 where\n" || errs.String() != "the rest" {
		t.Errorf("%q %q %v", out.String(), errs.String(), err)
	}

	for name, c := range map[string]struct {
		code string
		want PythonResult
	}{
		"fine":      {"print('ü')", PythonResult{Stdout: "ü\n", Output: "ü\n", Success: true}},
		"no input":  {"import sys; print(repr(sys.stdin.read()))", PythonResult{Stdout: "''\n", Output: "''\n", Success: true}},
		"empty":     {"", PythonResult{Success: true}},
		"exit code": {"import sys; sys.exit(7)", PythonResult{ExitCode: 7, Error: "exit status 7"}},
		"its words": {"import sys; sys.exit('no')", PythonResult{ExitCode: 1, Stderr: "no\n", Output: "no\n", Error: "no\n"}},
		"namespace": {"print(sorted(n for n in globals() if n[0] != '_'))", PythonResult{Stdout: "[]\n", Output: "[]\n", Success: true}},
		"dataclass": {"import dataclasses, pickle\n@dataclasses.dataclass\nclass A:\n  x: int\nprint(pickle.loads(pickle.dumps(A(1))))",
			PythonResult{Stdout: "A(x=1)\n", Output: "A(x=1)\n", Success: true}},
		"not text": {"import os; os.write(1, b'a\\xff')", PythonResult{Stdout: "a\uFFFD", Output: "a\uFFFD", Success: true}},
	} {
		if got := sb.PythonCapture(ctx, c.code, PythonOptions{}); got != c.want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestPythonTracebacks(t *testing.T) {
	t.Parallel()
	sb := pythonSandbox(t)
	for name, c := range map[string]struct{ code, want string }{
		"raised":  {"def f():\n    return 1/0 # here\n\nf()\n", "Traceback (most recent call last):\n  File \"<python>\", line 4, in <module>\n    f()"},
		"source":  {"def f():\n    return 1/0 # here\n\nf()\n", "    return 1/0 # here\n"},
		"syntax":  {"x = 1\ny = = 2\n", "  File \"<python>\", line 2\n    y = = 2\n"},
		"hook":    {"import sys\nsys.excepthook = lambda *a: print('hooked', file=sys.stderr)\n1/0", "hooked\n"},
		"NUL":     {"\x00", "null bytes"},
		"chained": {"try:\n  1/0\nexcept Exception as e:\n  raise ValueError('x') from e", "direct cause"},
	} {
		r := sb.PythonCapture(t.Context(), c.code, PythonOptions{})
		if r.Success || r.ExitCode != 1 || r.Error != r.Stderr || !strings.Contains(r.Stderr, c.want) || strings.Contains(r.Stderr, "<string>") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := sb.PythonCapture(t.Context(), "1/0", PythonOptions{Filename: "job.py"}); !strings.Contains(r.Stderr, `File "job.py", line 1`) {
		t.Errorf("named: %+v", r)
	}
}

// TestPythonOfAnyLength is longer than arguments may be, and than pipes are.
func TestPythonOfAnyLength(t *testing.T) {
	t.Parallel()
	sb := pythonSandbox(t)
	r := sb.PythonCapture(t.Context(), strings.Repeat("# a comment of many\n", 200_000)+"print('end')", PythonOptions{})
	if !r.Success || r.Stdout != "end\n" {
		t.Errorf("%.300v", r)
	}
}

func TestPythonTimeout(t *testing.T) {
	t.Parallel()
	sb := pythonSandbox(t)
	r := sb.PythonCapture(t.Context(), "print('begun', flush=True)\nwhile True: pass", PythonOptions{Timeout: 500 * time.Millisecond})
	if !r.TimedOut || r.Success || r.ExitCode == 0 || !strings.Contains(r.Error, "timed out") {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sb.Python(ctx, "", PythonOptions{}); err == nil {
		t.Error("ran without a context")
	}
}

func TestPythonThatCannotRun(t *testing.T) {
	t.Parallel()
	sb := pythonSandbox(t)
	ctx := t.Context()
	if err := sb.Python(ctx, "", PythonOptions{Packages: []string{"numpy"}}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "network") {
		t.Errorf("packages: %v", err)
	}
	nowhere := PythonOptions{Env: []string{"PATH=" + filepath.Join(t.TempDir(), "none")}}
	err := sb.Python(ctx, "", nowhere)
	if e := (*Error)(nil); !errors.As(err, &e) || e.Code != CodeNotFound || !strings.Contains(e.Hint, "python:3-alpine") {
		t.Errorf("no Python: %v", err)
	}
	if r := sb.PythonCapture(ctx, "", nowhere); r.ExitCode != -1 || r.Code != CodeNotFound || r.Hint == "" || r.Success {
		t.Errorf("no Python: %+v", r)
	}
	if err := sb.Python(ctx, "", PythonOptions{User: "nobody-of-this-name"}); err == nil || strings.Contains(err.Error(), "no Python") {
		t.Errorf("no such user: %v", err)
	}
	if err := sb.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if r := sb.PythonCapture(ctx, "", PythonOptions{}); r.Code != CodeConflict {
		t.Errorf("stopped: %+v", r)
	}
}
