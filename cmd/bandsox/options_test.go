package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bandsox/bandsox"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]sizeMiB{"512": 512, "512m": 512, "512MiB": 512, "2g": 2048, "2GB": 2048, "1t": 1 << 20, "2048k": 2} {
		var s sizeMiB
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%q: got %d %v, want %d", text, s, err, want)
		}
	}
	for _, bad := range []string{"", "m", "-1", "1.5g", "ten", "99999999999999999999"} {
		var s sizeMiB
		if err := s.Set(bad); err == nil {
			t.Errorf("%q: got %d", bad, s)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# comment\n\nA=1\n  B=two words \nHERE\nNOT_HERE\nC=a=b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HERE", "yes")
	os.Unsetenv("NOT_HERE")
	got, err := parseEnv([]string{file}, []string{"A=over", "D=", "HERE"})
	want := map[string]string{"A": "over", "B": "two words ", "C": "a=b", "D": "", "HERE": "yes"}
	if err != nil || !cmp.Equal(got, want) {
		t.Error(err, cmp.Diff(want, got))
	}
	if _, err := parseEnv(nil, []string{"=x"}); err == nil {
		t.Error("a variable without a name passed")
	}
	if _, err := parseEnv([]string{file + "no"}, nil); err == nil {
		t.Error("a missing file passed")
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		says string
	}{
		{nil, 0, ""},
		{&bandsox.ExitError{Code: 3}, 3, ""},
		{&bandsox.ExitError{Code: 143, Signal: 15}, 143, ""},
		{&bandsox.ExitError{Code: 137, Signal: 9, Timeout: true}, 124, "timed out"},
		{&bandsox.ExitError{Code: 137, Signal: 9, OOM: true, MemMiB: 128}, 137, "--mem 256"},
		{&bandsox.Error{Code: bandsox.CodeNotFound, Op: "create", Err: errors.New("no image")}, 125, "error: create: no image"},
		{&bandsox.Error{Code: bandsox.CodeNotFound, Op: "exec", Err: errors.New("no program")}, 127, "no program"},
		{&bandsox.Error{Code: bandsox.CodeDenied, Op: "exec", Err: errors.New("no x bit")}, 126, "no x bit"},
		{&bandsox.Error{Code: bandsox.CodeInvalid, Err: errors.New("bad"), Hint: "do this"}, 125, "hint: do this"},
		{fmt.Errorf("unknown flag"), 125, "error: unknown flag"},
		{exitCode(7), 7, ""},
	} {
		var w bytes.Buffer
		if code := report(&w, c.err); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.code)
		}
		if !strings.Contains(w.String(), c.says) || c.says == "" && w.Len() > 0 {
			t.Errorf("%v: printed %q, want %q", c.err, w.String(), c.says)
		}
	}
}

func TestGuestPaths(t *testing.T) {
	for arg, want := range map[string][2]string{"box:/etc/passwd": {"box", "/etc/passwd"}, "box:rel": {"box", "rel"}, "box:": {"box", ""}} {
		if ref, p, ok := cutGuest(arg); !ok || ref != want[0] || p != want[1] {
			t.Errorf("%q: got %q %q %v", arg, ref, p, ok)
		}
	}
	for _, local := range []string{"file", "./a:b", "/a:b", "../x:y", ":/x", "-"} {
		if ref, p, ok := cutGuest(local); ok {
			t.Errorf("%q: got %q %q", local, ref, p)
		}
	}
}

func TestTablesCannotBeBroken(t *testing.T) {
	var w bytes.Buffer
	tab := newTable("A", "B")
	tab.row("x\x1b[2J\ty\n", "z")
	if err := tab.print(&w); err != nil {
		t.Fatal(err)
	}
	if got := w.String(); got != "A         B\nx?[2J?y?  z\n" {
		t.Errorf("got %q", got)
	}
}

func TestMirrors(t *testing.T) {
	got, err := parseMirrors([]string{"docker.io=a", "docker.io=b"})
	if err != nil || !cmp.Equal(got, map[string][]string{"docker.io": {"a", "b"}}) {
		t.Error(got, err)
	}
	if _, err := parseMirrors([]string{"docker.io"}); err == nil {
		t.Error("passed")
	}
}
