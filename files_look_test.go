package bandsox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp/syntax"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filled is a sandbox of the process fake with these files.
func filled(t *testing.T, files map[string]string) *Sandbox {
	t.Helper()
	sb := create(t, newManager(t, t.TempDir()), CreateOptions{})
	for name, content := range files {
		if err := sb.WriteFile(t.Context(), name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sb
}

func TestLookAtFiles(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sb := filled(t, map[string]string{"/w/b.py": "x = 1\n", "/w/a-b": "", "/w/a/c.py": "", "/w/.venv/lib.py": "", "/w/od\xffd\n": "?"})
	list, err := sb.ReadDir(ctx, "w/")
	var names []string
	for _, st := range list {
		names = append(names, st.Path)
	}
	if d := cmp.Diff([]string{"/w/.venv", "/w/a", "/w/a-b", "/w/b.py", "/w/od\xffd\n"}, names); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	for pattern, want := range map[string]string{
		"/w/**/*.py": "/w/a/c.py /w/b.py", "w/*": "/w/a /w/a-b /w/b.py /w/od\xffd\n", "/w/b.py": "/w/b.py", "/none/*": "", "/w/none": "",
		"/w/.*/*": "/w/.venv/lib.py", "/*/a/c.?y": "/w/a/c.py", "/w/b.py/*": "",
	} {
		got, err := sb.Glob(ctx, pattern)
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: %q %v", pattern, got, err)
		}
	}
	if _, err := sb.Glob(ctx, "/w/[a"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad pattern: %v", err)
	}
	for p, want := range map[string]bool{"/w": true, "w/b.py": true, "/w/b.py/x": false, "/none": false, "/none/x": false} {
		if got, err := sb.Exists(ctx, p); got != want || err != nil {
			t.Errorf("%s: %v %v", p, got, err)
		}
	}
	var walked []string
	for st, err := range sb.Walk(ctx, "/w", WalkOptions{Exclude: []string{".venv"}, Type: "file"}) {
		if err != nil {
			t.Fatal(err)
		}
		walked = append(walked, path.Base(st.Path))
	}
	if d := cmp.Diff([]string{"c.py", "a-b", "b.py", "od\xffd\n"}, walked); d != "" {
		t.Error(d)
	}
	lines, err := sb.Lines(ctx, "/w/b.py", 0, 0)
	if d := cmp.Diff(Lines{Lines: []Line{{Number: 1, Text: "x = 1"}}, Total: 1}, lines); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}

	if _, err := sb.ReadDir(ctx, "/w/b.py"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "/w/b.py: not a directory") {
		t.Errorf("%v", err)
	}
	if _, err := sb.ReadDir(ctx, "/no\nne"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"/no\nne"`) {
		t.Errorf("%v", err)
	}
	for _, err := range sb.Walk(ctx, "/none", WalkOptions{}) {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	if err := sb.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	for _, err := range sb.Watch(ctx, "/w", WatchOptions{}) {
		if !errors.Is(err, ErrConflict) {
			t.Errorf("in a stopped sandbox: %v", err)
		}
	}
}

func TestSearchFiles(t *testing.T) {
	t.Parallel()
	sb := filled(t, map[string]string{
		"/w/a.go": "package a\n\nfunc Foo() int { return 12 }\nfunc bar() {}\n// T\u00c4SK task TASK \u212a\n", "/w/b.txt": "func Foo",
	})
	for _, c := range []struct {
		o    SearchOptions
		want string
	}{
		{SearchOptions{Text: "Foo"}, "/w/a.go:3 /w/b.txt:1"},
		{SearchOptions{Text: "Foo", MaxMatches: 1}, "/w/a.go:3"},
		{SearchOptions{Text: "FOO", IgnoreCase: true, Include: []string{"*.go"}}, "/w/a.go:3"},
		{SearchOptions{Regexp: `func \w+\(\)`}, "/w/a.go:3 /w/a.go:4"},
		{SearchOptions{Regexp: `^func [a-z]`}, "/w/a.go:4"},
		{SearchOptions{Regexp: `^$`}, "/w/a.go:2"},
		{SearchOptions{Regexp: `\d{2}|package`}, "/w/a.go:1 /w/a.go:3"},
		{SearchOptions{Regexp: `FUNC B`, IgnoreCase: true}, "/w/a.go:4"},
		{SearchOptions{Text: "t\u00e4sk", IgnoreCase: true}, "/w/a.go:5"},
		{SearchOptions{Text: "K", IgnoreCase: true, Path: "w/a.go"}, "/w/a.go:1 /w/a.go:5"},
		{SearchOptions{Text: "nothing"}, ""},
	} {
		var got []string
		if c.o.Path == "" {
			c.o.Path = "/w"
		}
		for m, err := range sb.Search(t.Context(), c.o) {
			if err != nil {
				t.Fatalf("%+v: %v", c.o, err)
			}
			got = append(got, fmt.Sprintf("%s:%d", m.Path, m.Line))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
	for _, o := range []SearchOptions{{}, {Text: "a", Regexp: "b"}, {Regexp: "("}, {Text: "a", Before: 1000}, {Text: "a\n"}, {Text: "a", MaxMatches: -1}} {
		for _, err := range sb.Search(t.Context(), o) {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v: %v", o, err)
			}
		}
	}
}

// TestRequired: whatever the guest is asked to look for must be in all that
// the expression matches.
func TestRequired(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		`foo.*barbaz`: "barbaz", `foo|bar`: "", `(error: )\d+`: "error: ", `(?:ab)+c?`: "ab", `x*y`: "y", `x{0,3}`: "", `(?i)warning`: "warning/fold",
		`(?i)task`: "ta/fold", `^a$`: "a", `\.go`: ".go", `(?i)ü-x`: "-x/fold", `[ab]c`: "c",
	} {
		re, err := syntax.Parse(expr, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		got, fold := required(re)
		if fold && got != "" {
			got += "/fold"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

func TestChangeFiles(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sb := filled(t, map[string]string{"/w/f": "one two one\n"})
	n, err := sb.Replace(ctx, "/w/f", "one", "1", ReplaceOptions{})
	if b, _ := sb.ReadFile(ctx, "/w/f"); n != 2 || err != nil || string(b) != "1 two 1\n" {
		t.Errorf("%d %v %q", n, err, b)
	}
	if _, err := sb.Replace(ctx, "/w/f", "three", "3", ReplaceOptions{}); !errors.Is(err, ErrNotFound) || !strings.HasPrefix(err.Error(), "replace /w/f: ") {
		t.Errorf("%v", err)
	}
	for what, err := range map[string]error{
		"mkdir":   sb.Mkdir(ctx, "/a/b", MkdirOptions{Parents: true, Mode: 0o700 | fs.ModeSticky}),
		"symlink": sb.Symlink(ctx, "/w/f", "/link"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := sb.Rename(ctx, "/w/f", "/a/b/f", RenameOptions{}); err != nil {
		t.Error(err)
	}
	if err := sb.Chmod(ctx, "/a/b/f", 0o4755, ChmodOptions{}); err != nil {
		t.Error(err)
	}
	for p, mode := range map[string]uint32{"/a/b": 0o1700, "/a/b/f": 0o4755} {
		if st, err := sb.Stat(ctx, p); err != nil || st.Mode != mode {
			t.Errorf("%s: %o %v", p, st.Mode, err)
		}
	}
	if err := sb.Rename(ctx, "/link", "/a/b/f", RenameOptions{}); !errors.Is(err, ErrConflict) {
		t.Errorf("%v", err)
	}
	if err := sb.Remove(ctx, "/a", RemoveOptions{}); !errors.Is(err, ErrConflict) {
		t.Errorf("%v", err)
	}
	if err := sb.Remove(ctx, "/", RemoveOptions{Recursive: true}); !errors.Is(err, ErrDenied) {
		t.Errorf("%v", err)
	}
	if err := sb.Remove(ctx, "/a", RemoveOptions{Recursive: true}); err != nil {
		t.Error(err)
	}
	if err := sb.Chown(ctx, "/w", "no-such-user", ChownOptions{Recursive: true}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestWatchFiles(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sb := filled(t, map[string]string{"/w/f": "x"})
	events := sb.Watch(ctx, "/w", WatchOptions{Recursive: true})
	for _, p := range []string{"/w/d", "/w/end"} {
		if err := sb.Mkdir(ctx, p, MkdirOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, string(e.Op)+" "+e.Path); e.Path == "/w/end" {
			break
		}
	}
	if d := cmp.Diff([]string{"created /w/d", "attrib /w/d", "created /w/end"}, got); d != "" {
		t.Error(d)
	}
	for _, err := range events {
		if err == nil {
			t.Error("an event of a watch that is over")
		}
	}
}
