package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDockersHabits: what the fingers of docker's users type does here what it
// does there.
func TestDockersHabits(t *testing.T) {
	l := newFake(t)
	l.says(t, "create", "--cpus", "2", "--name", "box", l.image)
	l.says(t, "create", "--name", "other", l.image)
	id := strings.TrimSpace(l.says(t, "ps", "-q", "--filter", "name=bo"))
	if len(id) != 20 {
		t.Fatalf("ps -q --filter name=bo: %q", id)
	}
	for _, c := range []struct {
		args  []string
		lines int
	}{
		{[]string{"ps", "-q"}, 2}, {[]string{"ps", "-aq", "--no-trunc"}, 2}, {[]string{"list", "--quiet"}, 2}, {[]string{"vm", "list", "-q"}, 2},
		{[]string{"ps", "-q", "--filter", "name=bo", "--filter", "name=the"}, 2}, {[]string{"ps", "-q", "-f", "name=none"}, 0},
	} {
		out := strings.Fields(l.says(t, c.args...))
		if len(out) != c.lines {
			t.Errorf("%v: %q", c.args, out)
		}
		for _, word := range out {
			if len(word) != 20 {
				t.Errorf("%v: %q is no id", c.args, word)
			}
		}
	}
	if out := l.says(t, "image", "list", "-q"); !strings.HasPrefix(out, "sha256:") || strings.Count(out, "\n") != 1 {
		t.Errorf("image list -q: %q", out)
	}
	if out := l.says(t, "inspect", id[:5]); !strings.Contains(out, `"vcpu": 2`) || !strings.Contains(out, id) {
		t.Errorf("inspect by the beginning of an id: %s", out)
	}
	if out := l.says(t, "inspect", "box", "other"); !strings.HasPrefix(out, "[") || strings.Count(out, `"vcpu"`) != 2 {
		t.Errorf("inspect of two: %s", out)
	}
	out, err := l.command("inspect", "box", "nobody").Output()
	if exitOf(t, err) == 0 || !strings.Contains(string(out), id) {
		t.Errorf("inspect of one that is there and one that isn't: %v %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("kept\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.says(t, "cp", "-r", dir, "box:/root/d")
	if out := l.says(t, "exec", "-w", "/root/d", "box", "cat", "f"); out != "kept\n" {
		t.Errorf("after cp -r: %q", out)
	}
	said, err := l.command("exec", "-w", "/not/there", "box", "true").CombinedOutput()
	if exitOf(t, err) != exitNotFound || !strings.Contains(string(said), "/not/there") {
		t.Errorf("exec -w of none: %v %s", err, said)
	}
	if out := l.says(t, "run", "-w", "/not/there", l.image, "pwd"); !strings.HasSuffix(out, "/not/there\n") {
		t.Errorf("run -w of none: %q", out)
	}
	if all, two := l.says(t, "logs", "box"), l.says(t, "logs", "--tail", "1", "box"); strings.Count(two, "\n") > 1 || !strings.HasSuffix(all, two) {
		t.Errorf("logs --tail 1: %q of %q", two, all)
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\nb\n", 5, "a\nb\n"}, {"a\nb\n", 0, ""}, {"a\nb\n", -1, "a\nb\n"}, {"", 3, ""}, {"\n\n", 1, "\n"},
	} {
		if got := string(lastLines([]byte(c.text), c.n)); got != c.want {
			t.Errorf("%d of %q: %q, want %q", c.n, c.text, got, c.want)
		}
	}
}
