package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/creack/pty"
)

func TestTable(t *testing.T) {
	tab := newTable("ID", "IMAGE", "STATUS")
	tab.row("abcdefghij0123456789", "registry.example/a/very/long/name", "running")
	tab.row("b", "x\x1b[2J\ty", "failed")
	whole := "ID                    IMAGE                              STATUS\n" +
		"abcdefghij0123456789  registry.example/a/very/long/name  running\n" +
		"b                     x?[2J?y                            failed\n"
	fitted := "ID                    IMAGE            STATUS\n" +
		"abcdefghij0123456789  registry.examp…  running\n" +
		"b                     x?[2J?y          failed\n"
	for width, want := range map[int]string{0: whole, 64: whole, 46: fitted} {
		if got := tab.text(width, false); got != want {
			t.Errorf("%d wide:\n%s", width, got)
		}
	}
	for _, width := range []int{1, 5, 10, 22, 30, 39, 63} {
		for line := range strings.Lines(tab.text(width, false)) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width {
				t.Errorf("%d wide: %d in %q", width, n, line)
			}
		}
	}
	got := tab.text(46, true)
	want := strings.NewReplacer("running", "\x1b[32mrunning\x1b[0m", "failed", "\x1b[31mfailed\x1b[0m").Replace(fitted)
	if got != want {
		t.Errorf("in colours: %q, want %q", got, want)
	}
}

// TestColours: on a terminal that has them, unless someone doesn't want them,
// and nowhere else.
func TestColours(t *testing.T) {
	l := newFake(t)
	l.says(t, "create", "--name", "box", l.image)
	if out := l.says(t, "ps"); strings.Contains(out, "\x1b") {
		t.Errorf("in a pipe: %q", out)
	}
	show := func(env ...string) string {
		cmd := l.command("ps")
		cmd.Env = append(cmd.Env, env...)
		return onTerminal(t, cmd, 60)
	}
	if out := show("TERM=xterm"); !strings.Contains(out, "\x1b[32mrunning\x1b[0m") || !strings.Contains(out, "…") {
		t.Errorf("on a terminal: %q", out)
	}
	for _, env := range [][]string{{"TERM=xterm", "NO_COLOR=1"}, {"TERM=dumb"}, {"TERM="}} {
		if out := show(env...); strings.Contains(out, "\x1b") || !strings.Contains(out, "running") {
			t.Errorf("%v: %q", env, out)
		}
	}
}

// onTerminal is what a command writes to a terminal so wide.
func onTerminal(t *testing.T, cmd *exec.Cmd, cols uint16) string {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	defer keys.Close()
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 24, Cols: cols}); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var out strings.Builder
	b := make([]byte, 4096)
	for {
		n, err := keys.Read(b) // fails when the other side is closed
		out.Write(b[:n])
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return out.String()
}
