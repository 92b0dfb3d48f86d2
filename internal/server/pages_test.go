package server_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

var pages = []string{"/", "/vm_details?id=x", "/terminal?id=x", "/markdown_viewer?vm_id=x&path=/a.md", "/login"}

func TestPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range pages {
		r := h.do("GET", path, nil)
		if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d, %s", path, r.status, r.header.Get("Content-Type"))
		}
		if policy := r.header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'self'") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
	page := h.do("GET", "/", nil)
	if again := h.do("GET", "/", nil, "If-None-Match", page.header.Get("ETag")); again.status != 304 {
		t.Errorf("the page again: %d", again.status)
	}
	for _, m := range regexp.MustCompile(`"(/static/[^"]+)"`).FindAllSubmatch(page.body, -1) {
		r := h.do("GET", string(m[1]), nil)
		if r.status != 200 || !strings.Contains(r.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %s", m[1], r.status, r.header.Get("Cache-Control"))
		}
		packed := h.do("GET", string(m[1]), nil, "Accept-Encoding", "br, gzip;q=0.8")
		if packed.header.Get("Content-Encoding") != "gzip" || len(packed.body) >= len(r.body) {
			t.Errorf("%s: %d of %d bytes, encoding %q", m[1], len(packed.body), len(r.body), packed.header.Get("Content-Encoding"))
		}
		if r := h.do("GET", string(m[1]), nil, "Accept-Encoding", "gzip;q=0"); r.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for who doesn't take it", m[1])
		}
	}
	for _, path := range []string{"/static/none.js", "/static/index.html", "/static/..%2fweb.go"} {
		if r := h.do("GET", path, nil); r.status != 404 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
}

// TestPagesWithKeys: who isn't known is sent to log in, and comes back.
func TestPagesWithKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	made, err := h.keys.Init(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for path, to := range map[string]string{"/": "/login", "/vm_details?id=x": "/login?next=%2Fvm_details%3Fid%3Dx"} {
		r := h.do("GET", path, nil)
		if r.status != http.StatusSeeOther || r.header.Get("Location") != to {
			t.Errorf("%s: %d to %q, not %q", path, r.status, r.header.Get("Location"), to)
		}
	}
	page := h.do("GET", "/login", nil)
	if page.status != 200 {
		t.Errorf("/login: %d", page.status)
	}
	if asset := regexp.MustCompile(`"(/static/[^"]+)"`).FindSubmatch(page.body); h.do("GET", string(asset[1]), nil).status != 200 {
		t.Error("what the login page needs is locked up")
	}
	h.key = made.Key
	for _, path := range pages {
		if r := h.do("GET", path, nil); r.status != 200 {
			t.Errorf("%s with a key: %d", path, r.status)
		}
	}
}

// TestBrowser walks through the pages in a real browser: web/build/browser.mjs
// says how. BANDSOX_SCREENSHOTS names a directory for pictures of them.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a browser: left out of -short")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs chromium: apt-get install chromium")
	}
	for _, tool := range []string{"node", "npm", "flock"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s to drive chromium by playwright-core", tool)
		}
	}
	if v, _ := exec.CommandContext(t.Context(), "node", "-p", "process.versions.node.split('.')[0]>=20").Output(); strings.TrimSpace(string(v)) != "true" {
		t.Skip("playwright-core needs node 20")
	}
	const build = "../../web/build"
	if out, err := exec.CommandContext(t.Context(), build+"/packages.sh").CombinedOutput(); err != nil {
		t.Skipf("the npm packages can't be fetched: %v\n%s", err, out)
	}
	open, locked := newHouse(t), newHouse(t)
	if _, err := locked.keys.Init(t.Context(), "correct horse battery"); err != nil {
		t.Fatal(err)
	}
	image := vmtest.Image(t)
	const files = "/srv/project"
	for _, h := range []*house{open, locked} {
		sb := h.create(bandsox.CreateOptions{Image: image, Name: "web-1", Labels: map[string]string{"team": "search", "env": "prod"}, Metadata: map[string]any{"owner": "ada"}})
		guestFiles(t, sb, files)
	}
	port := serve(t, guestSite())
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "browser.mjs", open.URL, locked.URL, image, files, strconv.Itoa(port), chromium)
	cmd.Dir = build
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// guestSite is a page of several files, of which each fetches another, with
// absolute paths as most tools write them.
func guestSite() http.Handler {
	mux := http.NewServeMux()
	for path, file := range map[string][2]string{
		"/{$}":       {"text/html", `<!doctype html><link rel="icon" href="data:,"><link rel="stylesheet" href="/style.css"><body>waiting<script type="module" src="/app.js"></script>`},
		"/style.css": {"text/css", "body { color: rgb(1, 2, 3) }"},
		"/app.js":    {"text/javascript", `import { word } from "./part.js"; const d = await (await fetch("/data.json")).json(); document.body.append(word + d.rest)`},
		"/part.js":   {"text/javascript", `export const word = "all parts "`},
		"/data.json": {"application/json", `{"rest": "are here"}`},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", file[0])
			_, _ = io.WriteString(w, file[1])
		})
	}
	return mux
}

// guestFiles makes what the browser finds in a sandbox.
func guestFiles(t *testing.T, sb *bandsox.Sandbox, dir string) {
	t.Helper()
	for name, text := range map[string]string{
		"README.md":              "# A guest's words\n\nSome **bold** text, `code`, [a link](https://example.org/), [another page](docs/more.md).\n\n- [x] done\n- [ ] not yet\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```sh\necho hello\n```\n\n> quoted\n\n<script>window.hacked = 1</script>\n<img src=x onerror=\"window.hacked = 1\">\n\n[bad](javascript:window.hacked=1) [bad2](java&#x73;cript:window.hacked=1) [bad3](data:text/html,x)\n\n![far](https://example.org/x.png)\n",
		"notes.txt":              "plain text\nwith two lines\n",
		"<b onclick=x>&amp;.txt": "a name that is no HTML\n",
		"docs/more.md":           "# More\n",
	} {
		if err := sb.WriteFile(t.Context(), dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
