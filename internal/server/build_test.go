package server_test

import (
	"archive/tar"
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// fromDockerfile is the reference's request.
func (h *house) fromDockerfile(t *testing.T, dockerfile string, fields map[string]string) reply {
	body, kind := form{fields, map[string]string{"dockerfile": dockerfile}}.encode(t)
	return h.do("POST", "/api/vms/from-dockerfile", body, "Content-Type", kind)
}

func TestBuildRefuses(t *testing.T) {
	h := newHouse(t)
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	if r := h.fromDockerfile(t, "FROM x", nil); r.status != 503 || r.field("code") != "unavailable" || r.field("hint") == nil {
		t.Errorf("no daemon: %d %s", r.status, r.body)
	}
	for name, value := range map[string]string{"vcpu": "two", "mem_mib": "1.5", "disk_size_mib": "x", "force_rebuild": "perhaps",
		"env_vars": "{", "metadata": "[1]"} {
		if r := h.fromDockerfile(t, "FROM x", map[string]string{name: value}); r.status != 422 {
			t.Errorf("%s=%s: %d %s", name, value, r.status, r.body)
		}
	}
	if r := h.fromDockerfile(t, strings.Repeat("#", 1<<20+1), nil); r.status != 413 {
		t.Errorf("a large Dockerfile: %d %s", r.status, r.body)
	}
	body, kind := form{fields: map[string]string{"tag": "x"}}.encode(t)
	if r := h.do("POST", "/api/vms/from-dockerfile", body, "Content-Type", kind); r.status != 422 || !strings.Contains(string(r.body), `"dockerfile"`) {
		t.Errorf("no Dockerfile: %d %s", r.status, r.body)
	}
	if r := h.do("POST", "/api/vms/from-dockerfile", js{"dockerfile": "FROM x"}); r.status != 400 {
		t.Errorf("no form: %d %s", r.status, r.body)
	}
	for query, status := range map[string]int{"": 503, "no_cache=maybe": 400, "build_arg=x": 400, "dockerfile=../x": 400, "tag=A+B": 400} {
		if r := h.do("POST", "/api/builds?"+query, "x"); r.status != status {
			t.Errorf("%q: %d %s, want %d", query, r.status, r.body, status)
		}
	}
	if r := h.do("POST", "/api/builds", "x", "Accept", "text/event-stream"); r.status != 200 || !strings.Contains(string(r.body), "event: error\ndata: {") {
		t.Errorf("events: %d %s", r.status, r.body)
	}
}

func TestBuild(t *testing.T) {
	h := newHouse(t)
	root := vmtest.Busybox(t)
	t.Setenv("DOCKER_HOST", "unix://"+vmtest.Dockerd(t))
	if err := os.WriteFile(filepath.Join(root, "Dockerfile"), []byte("FROM scratch\nARG WHO\nCOPY . /\nENV WHO=$WHO\nRUN echo made for $WHO\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	rc, file, err := bandsox.BuildOptions{Dir: root}.Pack(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if _, err := archive.ReadFrom(rc); err != nil {
		t.Fatal(err)
	}
	rc.Close()
	if file != "Dockerfile" || tar.NewReader(bytes.NewReader(archive.Bytes())) == nil {
		t.Fatalf("the Dockerfile is %q", file)
	}

	r := h.do("POST", "/api/builds?tag=base:1&build_arg=WHO=ann", archive.Bytes(), "Content-Type", "application/x-tar")
	var img bandsox.Image
	if r.json(t, &img); r.status != 200 || img.Source != "docker" || !strings.Contains(strings.Join(img.Config.Env, " "), "WHO=ann") {
		t.Fatalf("build: %d %s", r.status, r.body)
	}
	if got := h.do("GET", "/api/images/inspect?ref=base:1", nil); got.field("digest") != img.Digest {
		t.Errorf("the store has %s, built %s", got.body, img.Digest)
	}
	r = h.do("POST", "/api/builds?build_arg=WHO=bob", archive.Bytes(), "Accept", "text/event-stream")
	for _, want := range []string{"event: log\ndata: ", "made for bob", "event: progress\ndata: ", "event: done\ndata: {\"digest\":\"sha256:"} {
		if !strings.Contains(string(r.body), want) {
			t.Errorf("%q is not in the events: %s", want, r.body)
		}
	}
	if r := h.do("POST", "/api/builds?dockerfile=none", archive.Bytes()); r.status != 400 || r.field("code") != "invalid" {
		t.Errorf("no such Dockerfile: %d %s", r.status, r.body)
	}

	t.Run("from a Dockerfile", func(t *testing.T) {
		var wg sync.WaitGroup
		for _, name := range []string{"one", "two"} { // at once
			wg.Go(func() {
				r := h.fromDockerfile(t, "FROM base:1\nENV N="+name+"\n", map[string]string{"name": name, "tag": "n:" + name, "vcpu": "", "mem_mib": "256",
					"force_rebuild": "True", "env_vars": `{"A":"b"}`, "metadata": `{"k":{"v":1}}`, "mcp": "{}"})
				if r.status != 200 || r.field("status") != "created" {
					t.Errorf("%d %s", r.status, r.body)
					return
				}
				var info bandsox.Info
				h.do("GET", "/api/vms/"+r.field("id").(string), nil).json(t, &info)
				if info.Name != name || info.Image != "n:"+name || info.VCPU != 1 || info.MemMiB != 256 || info.DiskSizeMiB != 4096 ||
					info.Metadata["k"] == nil || info.Env["A"] != "b" || !strings.Contains(strings.Join(info.Config.Env, " "), "N="+name) {
					t.Errorf("%s: got %+v", name, info)
				}
			})
		}
		wg.Wait()
		r := h.fromDockerfile(t, "FROM base:1\n", map[string]string{"name": "", "metadata": "null"})
		if r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if got := h.do("GET", "/api/vms/"+r.field("id").(string), nil); got.field("image") != img.Digest {
			t.Errorf("without a tag: %s", got.body)
		}
		r = h.fromDockerfile(t, "FROM base:1\nRUN echo so it ends; false\n", nil)
		if detail, _ := r.field("detail").(string); r.status != 400 || !strings.Contains(detail, "so it ends") {
			t.Errorf("a build that fails: %d %s", r.status, r.body)
		}
	})
}

// TestBuildsAreForThoseWhoMayDoEverything: RUN is root on the server's host.
func TestBuildsAreForThoseWhoMayDoEverything(t *testing.T) {
	t.Parallel()
	h := newHouseWith(t, auth.Options{Local: func(*http.Request) bool { return false }})
	body, kind := form{files: map[string]string{"dockerfile": "FROM scratch"}}.encode(t)
	ask := func() int { return h.do("POST", "/api/vms/from-dockerfile", body, "Content-Type", kind).status }
	if got := ask(); got != 403 {
		t.Errorf("anyone on this machine: %d", got)
	}
	made, err := h.keys.Init(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	user, err := h.keys.CreateKey(t.Context(), auth.KeyOptions{Name: "user", Scopes: []auth.Scope{auth.ScopeUse}})
	if err != nil {
		t.Fatal(err)
	}
	if h.key = user.Key; ask() != 403 {
		t.Error("a key that may use sandboxes built")
	}
	if h.key = made.Key; ask() == 403 {
		t.Error("a key that may do everything may not")
	}
}
