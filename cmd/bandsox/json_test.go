package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// plain are the commands without --json, and why.
var plain = map[string]string{
	"cp":         "prints nothing of its own: LOCAL may be standard output",
	"wait":       "prints nothing",
	"proxy":      "its output is the other side's",
	"terminal":   "its output is the shell's, on a terminal",
	"completion": "prints a script", "completion bash": "prints a script", "completion fish": "prints a script",
	"completion powershell": "prints a script", "completion zsh": "prints a script",
	"help":  "prints help",
	"image": "prints help", "snapshot": "prints help", "vm": "prints help", "auth": "prints help",
}

type jsonCase struct {
	args  string
	code  int  // -1: as this host can
	lines bool // of JSON, one value each
	stdin string
	check string // in it
}

// asJSON is a command line for each of the others. $ID is a process.
var asJSON = []jsonCase{
	{args: "version", check: `"version"`},
	{args: "doctor", code: -1, check: `"checks"`},
	{args: "serve --stop", check: `"done":"stopped"`},
	{args: "init --skip-kernel", check: `{}`},
	{args: "image pull $IMAGE", lines: true, check: `"digest"`},
	{args: "image list", check: `"digest"`},
	{args: "image inspect $IMAGE", check: `"digest"`},
	{args: "build none", code: exitError},
	{args: "image load -i none", code: exitError},
	{args: "create --name box -e SECRET=hunter2 $IMAGE", check: `"hunter2"`},
	{args: "ps", check: `"SECRET": "<redacted>"`},
	{args: "vm list", check: `"SECRET": "<redacted>"`},
	{args: "inspect box", check: `"hunter2"`},
	{args: "run $IMAGE sh -c 'echo hi; exit 3'", code: 3, check: `"stdout": "hi\n"`},
	{args: "exec box echo hi", check: `"stdout": "hi\n"`},
	{args: "exec -d box echo kept", check: `"process"`},
	{args: "attach box $ID", check: `"stdout": "kept\n"`},
	{args: "top -a box", check: `"argv"`},
	{args: "python box -c print(6*7)", code: -1, check: `"exit_code"`},
	{args: "ls box:/hello", code: -1, lines: true},
	{args: "find box:/", code: -1, lines: true},
	{args: "grep world box:/", code: -1, lines: true},
	{args: "watch --count 1 none:/", code: exitError},
	{args: "logs box", lines: true, check: `"line"`},
	{args: "stats --no-stream box", check: `"cpu_percent"`},
	{args: "events --follow=false", lines: true, check: `"type"`},
	{args: "df", check: `"images"`},
	{args: "ssh-config box", check: `"proxy_command"`},
	{args: "port-forward box 0", code: exitError},
	{args: "pause box", lines: true, check: `"done":"paused"`},
	{args: "resume box", lines: true, check: `"done":"resumed"`},
	{args: "vm pause box", check: `"done":"paused"`},
	{args: "vm resume box", check: `"done":"resumed"`},
	{args: "restart box", lines: true, check: `"done":"restarted"`},
	{args: "update --label a=b box", check: `"a": "b"`},
	{args: "rename box crate", check: `"done":"renamed"`},
	{args: "vm rename crate box", check: `"name":"box"`},
	{args: "snapshot create --name s1 --metadata a=b box", check: `"snapshot_name": "s1"`},
	{args: "vm save box s2", check: `"snapshot_name": "s2"`},
	{args: "snapshot list", check: `"SECRET": "<redacted>"`},
	{args: "snapshot inspect s1", check: `"a": "b"`},
	{args: "snapshot rename s1 s3", check: `"done":"renamed"`},
	{args: "snapshot restore --name again s3", check: `"restored_from"`},
	{args: "snapshot delete s3", code: exitError},
	{args: "rm -f again", lines: true, check: `"done":"deleted"`},
	{args: "snapshot delete s2 s3", lines: true, check: `"done":"deleted"`},
	{args: "fork -n 2 --name kid box", lines: true, check: `"done":"forked"`},
	{args: "rm -f kid-1 kid-2", lines: true, check: `"done":"deleted"`},
	{args: "stop box", lines: true, check: `"done":"stopped"`},
	{args: "stop box", lines: true, check: `"already":true`},
	{args: "start box", lines: true, check: `"done":"started"`},
	{args: "kill box", lines: true, check: `"done":"killed"`},
	{args: "start box", lines: true, check: `"done":"started"`},
	{args: "vm stop box", check: `"done":"stopped"`},
	{args: "rm box", lines: true, check: `"done":"deleted"`},
	{args: "create --name box $IMAGE", check: `"box"`},
	{args: "vm delete box", check: `"done":"deleted"`},
	{args: "cleanup", check: `[`},
	{args: "image rm $IMAGE", lines: true, check: `"done":"removed"`},
	{args: "image prune", check: `[`},
	{args: "auth init --password-stdin", stdin: "a long password\n", check: `"key"`},
	{args: "auth init", check: `"already"`},
	{args: "auth create-key me", check: `"key"`},
	{args: "auth list-keys", check: `"me"`},
	{args: "auth set-password --password-stdin", stdin: "another password\n", check: `"done":"changed"`},
	{args: "auth revoke-key none", code: exitError},
}

// TestEveryCommandHasJSON walks them all: none can be forgotten.
func TestEveryCommandHasJSON(t *testing.T) {
	root := newRoot(&app{})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "bandsox ")
		has := cmd.Flags().Lookup("json") != nil
		tried := slices.ContainsFunc(asJSON, func(c jsonCase) bool {
			return c.args == path || strings.HasPrefix(c.args, path+" ")
		})
		switch why := plain[path]; {
		case why == "" && !has && cmd != root:
			t.Errorf("%s has no --json, and nothing says why", path)
		case why != "" && has:
			t.Errorf("%s has --json, though it %s", path, why)
		case has && !tried:
			t.Errorf("%s --json is not tried", path)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// TestJSON: what they print with it is JSON and nothing else.
func TestJSON(t *testing.T) {
	l := newFake(t)
	process := ""
	for _, c := range asJSON {
		var args []string
		for i, part := range strings.Split(c.args, "'") {
			if i%2 == 1 {
				args = append(args, part)
			} else {
				args = append(args, strings.Fields(part)...)
			}
		}
		for i, arg := range args {
			args[i] = strings.NewReplacer("$IMAGE", l.image, "$ID", process).Replace(arg)
		}
		at := 1 // flags come before a program's arguments
		if len(args) > 1 && (args[0] == "image" || args[0] == "vm" || args[0] == "auth" || args[0] == "snapshot") {
			at = 2
		}
		cmd := l.command(slices.Insert(args, at, "--json")...)
		cmd.Dir = t.TempDir()
		cmd.Stdin = strings.NewReader(c.stdin)
		var out, said output
		cmd.Stdout, cmd.Stderr = &out, &said
		code := exitOf(t, cmd.Run())
		if c.code >= 0 && code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.args, code, c.code, out.String(), said.String())
			continue
		}
		values, err := decode(out.String())
		if err != nil || !strings.Contains(out.String(), c.check) || !c.lines && c.code != exitError && len(values) != 1 {
			t.Errorf("%s: %d values, %v, and no %s?\n%s%s", c.args, len(values), err, c.check, out.String(), said.String())
		}
		if n := strings.Count(out.String(), "\n"); c.lines && n != len(values) {
			t.Errorf("%s: %d values on %d lines\n%s", c.args, len(values), n, out.String())
		}
		if m, ok := first(values).(map[string]any); ok && strings.HasPrefix(c.args, "exec -d") {
			process, _ = m["process"].(string)
		}
	}
}

func first(values []any) any {
	if len(values) == 0 {
		return nil
	}
	return values[0]
}

// decode reads JSON values.
func decode(text string) (values []any, err error) {
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var v any
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return values, nil
		case err != nil:
			return values, err
		}
		values = append(values, v)
	}
}

// TestServeJSON: where it listens is one line for a program.
func TestServeJSON(t *testing.T) {
	l := newFake(t)
	r := l.start(t, "serve", "--json", "--port", "0", "--host", "0.0.0.0", "--insecure")
	wait(t, "a line", func() bool { return strings.HasSuffix(r.out.String(), "\n") })
	var w whereabouts
	if err := json.Unmarshal([]byte(r.out.String()), &w); err != nil || !strings.HasPrefix(w.URL, "http://127.0.0.1:") || w.Socket == "" {
		t.Errorf("%v: %s", err, r.out.String())
	}
}

// TestJSONLines keeps what is no whole line until it is one.
func TestJSONLines(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	was := os.Stdout
	os.Stdout = f
	defer func() { os.Stdout = was }()
	l := &jsonLines{}
	for _, part := range []string{"a", "b\r\nc\n", "\n<d>"} {
		if _, err := l.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	want := "{\"line\":\"ab\"}\n{\"line\":\"c\"}\n{\"line\":\"\"}\n{\"line\":\"<d>\"}\n"
	if err != nil || !bytes.Equal(got, []byte(want)) {
		t.Errorf("%v: %s", err, got)
	}
}
