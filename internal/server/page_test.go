package server_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

// TestAPIPage runs what docs/api.md shows, in its order, and compares what is
// printed with what the page says. The addresses are the test's own; machines
// are the process fake's, so that programs are this host's.
func TestAPIPage(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "python3", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program)
		}
	}
	if out, _ := exec.Command("curl", "--help", "all").Output(); !bytes.Contains(out, []byte("--json")) {
		t.Skip("needs curl 7.82 or newer")
	}
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	p := newPageRun(t)
	section := ""
	blocks := 0
	for _, part := range regexp.MustCompile("(?ms)^## ([^\n]+)$|^```(sh|python)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		switch {
		case part[1] != "":
			section = part[1]
			if section == "Keys" {
				p.withKeys()
			}
		case part[2] == "sh":
			blocks++
			p.shell(section, part[3])
		default:
			blocks++
			p.verify(part[3])
		}
		if t.Failed() {
			return // what comes may build on it
		}
	}
	if blocks < 10 {
		t.Errorf("only %d examples were found", blocks)
	}
}

// pageRun is where the page's commands are run.
type pageRun struct {
	t        *testing.T
	dir      string
	keys     *auth.Store
	key      string
	replacer *strings.Replacer
	hooked   chan hooked
}

// hooked is what a webhook has received.
type hooked struct {
	signature string
	body      []byte
}

func newPageRun(t *testing.T) *pageRun {
	state := t.TempDir()
	p := &pageRun{t: t, dir: t.TempDir(), keys: auth.Open(filepath.Join(state, "auth.json")), hooked: make(chan hooked, 100)}
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(t.Context(), bandsox.Config{Storage: state, Driver: "process", Log: quiet,
		Images: bandsox.ImageSources{Mirrors: map[string][]string{"docker.io": {serveImage(t, "library/python:3-alpine")}}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Manager: m, Auth: p.keys, Version: "test", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.hooked <- hooked{r.Header.Get("Bandsox-Signature"), body}
	}))
	t.Cleanup(func() {
		s.EndStreams()
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		hook.Close()
		ctx := context.Background()
		list, _ := m.List(ctx, bandsox.ListOptions{})
		for _, i := range list {
			if sb, err := m.Get(ctx, i.ID); err == nil {
				if err := sb.Delete(ctx); err != nil {
					t.Error(err)
				}
			}
		}
		m.Close()
	})
	p.programs()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(h.URL, "http://"))
	p.replacer = strings.NewReplacer(":8000", ":"+port, "127.0.0.1:9000", strings.TrimPrefix(hook.URL, "http://"), "8080", strconv.Itoa(freePort(t)))
	return p
}

// serveImage is a registry with an image of one file.
func serveImage(t *testing.T, ref string) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	_ = w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 5})
	_, _ = io.WriteString(w, "world")
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img); err != nil {
		t.Fatal(err)
	}
	return srv.URL
}

// freePort is a port that nobody listens on, and that the kernel gives to none
// who asks it for any.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (p *pageRun) withKeys() {
	made, err := p.keys.Init(p.t.Context(), "")
	if err != nil {
		p.t.Fatal(err)
	}
	p.key = made.Key
}

// curl is the one of the page: it says nothing of its own and tells statuses
// apart from what it prints, unless -f tells them already.
const curl = `#!/bin/sh
case " $* " in
*" -sf "*) exec '%[1]s' "$@" ;;
*) exec '%[1]s' -sS -w '%%{stderr}status %%{http_code} of %%{url}\n' "$@" ;;
esac
`

// shell runs a block. It fails on an answer that is an error, unless the block
// shows one.
func (p *pageRun) shell(section, block string) {
	p.t.Helper()
	var want strings.Builder
	for line := range strings.Lines(block) {
		if out, ok := strings.CutPrefix(line, "#>"); ok {
			want.WriteString(strings.TrimPrefix(out, " "))
		}
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", p.replacer.Replace(block))
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "BANDSOX_KEY="+p.key, "PATH="+filepath.Join(p.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		p.t.Errorf("%s: %v\n%s\nprinted %s\nand %s", section, err, block, &stdout, &stderr)
		return
	}
	for _, status := range regexp.MustCompile(`status ([1-9]\d\d) of .*`).FindAllStringSubmatch(stderr.String(), -1) {
		if status[1] >= "400" && !strings.Contains(want.String(), `"detail"`) {
			p.t.Errorf("%s: %s\n%s", section, status[0], &stdout)
		}
	}
	if got := stdout.String(); want.Len() > 0 && !shown(want.String(), got) {
		p.t.Errorf("%s: the page says\n%s\nand it is\n%s", section, &want, got)
	}
}

// shown reports whether a page's words, in which … stands for anything, are
// what was printed. Where a line ends is told by the page alone: some answers
// end with one and some don't.
func shown(page, got string) bool {
	flat := func(s string) string {
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "\n")
	}
	// A piece of output without an end of its line is one with the next.
	pattern := strings.ReplaceAll(regexp.QuoteMeta(flat(page)), "…", `(?s:.*)`)
	return regexp.MustCompile(`\A` + strings.ReplaceAll(pattern, "\n", `\n?`) + `\z`).MatchString(flat(got))
}

// verify runs the page's check of a webhook's signature on one.
func (p *pageRun) verify(code string) {
	p.t.Helper()
	var h hooked
	select {
	case h = <-p.hooked:
	case <-time.After(time.Minute):
		p.t.Fatal("the webhook was not called")
	}
	code += "\nimport sys\nb = sys.stdin.buffer.read()\n" +
		"print(genuine('s3cret', sys.argv[1], b), genuine('s3cret', sys.argv[1], b + b' '), genuine('other', sys.argv[1], b))\n"
	cmd := exec.Command("python3", "-c", code, h.signature)
	cmd.Stdin = bytes.NewReader(h.body)
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "True False False" {
		p.t.Errorf("%v %s", err, out)
	}
}

// programs are curl with the flags of a test, and websocat, which is this test
// program where there is none.
func (p *pageRun) programs() {
	p.t.Helper()
	put := func(name, script string) {
		if err := os.WriteFile(filepath.Join(p.dir, "bin", name), []byte(script), 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(p.dir, "bin"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	real, err := exec.LookPath("curl")
	if err != nil {
		p.t.Fatal(err)
	}
	put("curl", fmt.Sprintf(curl, real))
	if _, err := exec.LookPath("websocat"); err == nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	put("websocat", fmt.Sprintf("#!/bin/sh\nWEBSOCAT=\"$2\" exec '%s' -test.run '^TestWebsocat$'\n", self))
}

// TestWebsocat is `websocat -n URL` where the variable WEBSOCAT names the URL:
// lines of its input are frames, frames are lines of its output.
func TestWebsocat(t *testing.T) {
	url := os.Getenv("WEBSOCAT")
	if url == "" {
		t.Skip("is a program that TestAPIPage runs")
	}
	ctx := context.Background()
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			_ = c.Write(ctx, websocket.MessageText, in.Bytes())
		}
	}()
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
				os.Exit(0)
			}
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%s\n", b)
	}
}
