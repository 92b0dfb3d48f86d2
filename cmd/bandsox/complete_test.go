package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/store"
)

// TestCompletion: live names come while a server runs, and a Tab starts none.
func TestCompletion(t *testing.T) {
	l := newFake(t)
	complete := func(args ...string) string {
		t.Helper()
		return l.says(t, append([]string{"__complete"}, args...)...)
	}
	if got := complete("stop", ""); got != ":4\n" {
		t.Errorf("with no server: %q", got)
	}
	if _, err := os.Stat(store.Layout(l.state).Socket()); !os.IsNotExist(err) {
		t.Errorf("a Tab has started a server: %v", err)
	}
	l.says(t, "create", "--name", "crate", l.image)
	id := strings.TrimSpace(strings.TrimPrefix(l.says(t, "create", "--name", "crane", l.image), "VM created: "))
	for _, c := range []struct {
		line  string
		words string // that come
		what  string // the directive
	}{
		{"stop cra", "crane crate", ":4"},
		{"stop crate cra", "crane", ":4"},
		{"inspect cra", "crane crate", ":4"},
		{"inspect " + id[:19], id, ":4"},
		{"inspect crate ", "crane", ":4"},
		{"inspect ", "crane crate", ":4"},
		{"exec crate ", "", ":0"},
		{"exec -it cra", "crane crate", ":4"},
		{"ls cra", "crane: crate:", ":2"},
		{"cp file cra", "crane: crate:", ":2"},
		{"cp cra", "crane: crate:", ":2"},
		{"cp ./cra", "", ":0"},
		{"vm delete cra", "crane crate", ":4"},
		{"port-forward crate ", "", ":4"},
		{"auth create-key me --sandbox cra", "crane crate", ":4"},
		{"create dir:", l.image, ":4"},
		{"image rm dir:", l.image, ":4"},
	} {
		out := complete(strings.Split(c.line, " ")...)
		var words []string
		lines := strings.Split(strings.TrimSpace(out), "\n")
		for _, line := range lines[:len(lines)-1] {
			word, _, _ := strings.Cut(line, "\t")
			words = append(words, word)
		}
		if got := strings.Join(words, " "); got != c.words || lines[len(lines)-1] != c.what {
			t.Errorf("%q: %q %s, want %q %s", c.line, got, lines[len(lines)-1], c.words, c.what)
		}
	}
}

// TestCompletionScripts: each shell takes its script, and offers live names.
func TestCompletionScripts(t *testing.T) {
	l := newFake(t)
	l.says(t, "create", "--name", "crate", l.image)
	for _, c := range []struct{ shell, ask string }{
		{"bash", `source /usr/share/bash-completion/bash_completion; source "$1"; COMP_LINE="bandsox stop cra"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=(bandsox stop cra); COMP_CWORD=2; COMP_TYPE=9
			__start_bandsox; printf '%s\n' "${COMPREPLY[@]}"`},
		{"zsh", `autoload -U compinit; compinit -u -D; source "$1" && (( $+functions[_bandsox] )) && bandsox __complete stop cra`},
		{"fish", `source $argv[1]; complete -C 'bandsox stop cra'`},
	} {
		t.Run(c.shell, func(t *testing.T) {
			path, err := exec.LookPath(c.shell)
			if err != nil {
				t.Skipf("needs %s", c.shell)
			}
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); c.shell == "bash" && err != nil {
				t.Skip("needs the package bash-completion, as the script does")
			}
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(l.says(t, "completion", c.shell)), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"-c", c.ask, "sh", script}
			if c.shell == "fish" {
				args = []string{"--no-config", "-c", c.ask, script}
			}
			cmd := exec.Command(path, args...)
			cmd.Env = l.env
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "crate") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
