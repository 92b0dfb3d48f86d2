package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// echo is a server in a guest, which shares the network of this host: it
// answers each line with the same in capitals, and says when its reader has ended.
func echo(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, strings.ToUpper(lines.Text()))
				}
				fmt.Fprintln(c, "END")
			}()
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// TestProxy: what goes in comes out, also after our side has ended.
func TestProxy(t *testing.T) {
	l := newFake(t)
	port := echo(t)
	l.says(t, "create", "--name", "box", l.image)
	cmd := l.command("proxy", "box", port)
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	out, err := cmd.Output()
	if err != nil || string(out) != "ONE\nTWO\nEND\n" {
		t.Errorf("%q %v", out, err)
	}

	for _, c := range []struct{ port, says string }{
		{"0", "must be from 1 to 65535"}, {"ssh", "must be from 1 to 65535"}, {closedPort(t), "nothing listens on port"},
	} {
		out, err := l.command("proxy", "box", c.port).CombinedOutput()
		if code := exitOf(t, err); code != exitError || !strings.Contains(string(out), c.says) {
			t.Errorf("port %s: exit code %d, %s", c.port, code, out)
		}
	}

	// A server that says nothing is left by Ctrl-C.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := &running{Cmd: l.command("proxy", "box", strconv.Itoa(silent.Addr().(*net.TCPAddr).Port))}
	in, err := r.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r.Stdout, r.Stderr = &r.out, &r.err
	r.begin(t)
	c, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r.signal(t, syscall.SIGINT)
	r.ends(t, vmtest.Timeout, 130)
}

// closedPort is one that nobody listens on.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// TestPortForward: several ports at a time, several connections to each, until
// Ctrl-C.
func TestPortForward(t *testing.T) {
	l := newFake(t)
	first, second := echo(t), closedPort(t)
	l.says(t, "create", "--name", "box", l.image)
	r := l.start(t, "port-forward", "box", "0:"+first, "localhost:0:"+second)
	said := regexp.MustCompile(`Forwarding (\S+) to port (\d+)`)
	wait(t, "two ports", func() bool { return len(said.FindAllString(r.out.String(), -1)) == 2 })
	at := map[string]string{}
	for _, m := range said.FindAllStringSubmatch(r.out.String(), -1) {
		at[m[2]] = m[1]
	}
	talk := func(addr, text string) string {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		return string(b)
	}
	for range 3 {
		if got := talk(at[first], "a\nb\n"); got != "A\nB\nEND\n" {
			t.Errorf("got %q", got)
		}
	}
	// Nobody listens there: said, and the rest goes on.
	if got := talk(at[second], "a\n"); got != "" {
		t.Errorf("got %q from a port that is closed", got)
	}
	wait(t, "the reason", func() bool { return strings.Contains(r.err.String(), "nothing listens on port") })
	if got := talk(at[first], "c\n"); got != "C\nEND\n" {
		t.Errorf("afterwards got %q", got)
	}

	// A port that is taken is an error, and nothing is listened on.
	out, err := l.command("port-forward", "box", strings.TrimPrefix(at[first], "127.0.0.1:")+":"+first).CombinedOutput()
	if code := exitOf(t, err); code != exitError || !strings.Contains(string(out), "hint: 0:"+first) {
		t.Errorf("exit code %d, %s", code, out)
	}

	r.signal(t, syscall.SIGINT)
	r.ends(t, vmtest.Timeout, 130)
	if c, err := net.Dial("tcp", at[first]); err == nil {
		c.Close()
		t.Error("it still listens")
	}

	r = l.start(t, "port-forward", "--json", "box", "0:"+first)
	wait(t, "a line", func() bool { return strings.HasSuffix(r.out.String(), "\n") })
	var line struct {
		Local string
		Port  int
	}
	if err := json.Unmarshal([]byte(r.out.String()), &line); err != nil || strconv.Itoa(line.Port) != first || talk(line.Local, "d\n") != "D\nEND\n" {
		t.Errorf("%v %s", err, r.out.String())
	}
}

func TestParseForward(t *testing.T) {
	for _, c := range []struct {
		arg, local string
		port       int
	}{
		{"80", "127.0.0.1:80", 80},
		{"8080:80", "127.0.0.1:8080", 80},
		{"0:80", "127.0.0.1:0", 80},
		{"0.0.0.0:8080:80", "0.0.0.0:8080", 80},
		{"[::1]:8080:80", "[::1]:8080", 80},
		{"::1:8080:80", "[::1]:8080", 80},
		{"localhost:0:80", "localhost:0", 80},
	} {
		if f, err := parseForward(c.arg, "127.0.0.1"); err != nil || f.local != c.local || f.port != c.port {
			t.Errorf("%s: %+v %v", c.arg, f, err)
		}
	}
	for _, bad := range []string{"", "0", "x", "80:", ":80:", "80:0", "99999:80", "80:99999", "a:b:80", "-1:80"} {
		if f, err := parseForward(bad, "127.0.0.1"); err == nil {
			t.Errorf("%s: %+v", bad, f)
		}
	}
}

// TestSSHConfig: ssh itself reads it, and its ProxyCommand reaches the port.
func TestSSHConfig(t *testing.T) {
	l := newFake(t)
	port := echo(t)
	l.says(t, "create", "--name", "box", l.image)
	config := l.says(t, "ssh-config", "--ssh-port", port, "--user", "ann", "box")
	for _, want := range []string{"Host box\n", "  User ann\n"} {
		if !strings.Contains(config, want) {
			t.Errorf("no %q in\n%s", want, config)
		}
	}
	_, command, ok := strings.Cut(config, "  ProxyCommand ")
	if !ok {
		t.Fatalf("no ProxyCommand in\n%s", config)
	}
	proxy := exec.Command("sh", "-c", command)
	proxy.Env = []string{"PATH=/nowhere"} // ssh may be started from anywhere
	proxy.Stdin = strings.NewReader("hello\n")
	if out, err := proxy.CombinedOutput(); err != nil || string(out) != "HELLO\nEND\n" {
		t.Errorf("%s: %q %v", command, out, err)
	}
	var fields map[string]string
	if err := json.Unmarshal([]byte(l.says(t, "ssh-config", "--json", "--ssh-port", port, "box")), &fields); err != nil || fields["proxy_command"]+"\n" != command {
		t.Errorf("%v: %v", err, fields)
	}
	if out, err := l.command("ssh-config", "--ssh-port", "0", "box").CombinedOutput(); exitOf(t, err) != exitError {
		t.Errorf("port 0: %s", out)
	}

	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh reads it only where there is one")
	}
	ssh := exec.Command("ssh", "-G", "-F", "/dev/stdin", "box")
	ssh.Stdin = strings.NewReader(config)
	out, err := ssh.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("user ann\n")) || !bytes.Contains(out, []byte("proxycommand "+command)) {
		t.Errorf("%v: ssh understands\n%s", err, out)
	}
}

func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "plain/path-1.2", "two words", "it's", "$HOME `x` \"y\" \\ *", "~"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q: %s gives %q %v", s, shellQuote(s), out, err)
		}
	}
}
