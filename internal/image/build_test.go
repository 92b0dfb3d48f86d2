package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
	"github.com/bandsox/bandsox/internal/wire"
)

func TestBuildWithoutDaemon(t *testing.T) {
	_, err := Build(t.Context(), options(t), BuildRequest{Context: strings.NewReader(""), File: "Dockerfile"})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.Unavailable || !strings.Contains(e.Hint, "bandsox image load") {
		t.Errorf("got %v, want unavailable and what to do", err)
	}
	for _, tag := range []string{"A b", "dir:/", "x@sha256:" + strings.Repeat("0", 64), "docker-daemon:x"} {
		if _, err := Build(t.Context(), options(t), BuildRequest{Context: strings.NewReader(""), Tag: tag}); wire.CodeOf(err) != wire.Invalid {
			t.Errorf("tag %q: got %v, want invalid", tag, err)
		}
	}
}

func TestRealBuild(t *testing.T) {
	o := options(t)
	root := vmtest.Busybox(t)
	o.Docker = vmtest.Dockerd(t)
	build := func(ctx context.Context, c BuildContext, b BuildRequest) (string, error) {
		rc, file, err := c.Open(ctx)
		if err != nil {
			return "", err
		}
		defer rc.Close()
		b.Context, b.File = rc, file
		return Build(ctx, o, b)
	}
	of := func(dockerfile string) BuildContext { return BuildContext{Dockerfile: strings.NewReader(dockerfile)} }
	must(t, os.WriteFile(filepath.Join(root, "Dockerfile"), []byte("FROM scratch\nCOPY . /\nENV A=b\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, ".dockerignore"), []byte("Dockerfile\n.dockerignore\ntmp\n"), 0o644))
	var log bytes.Buffer
	id, err := build(t.Context(), BuildContext{Dir: root}, BuildRequest{Tag: "base:1", Log: &log})
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if !strings.Contains(log.String(), "COPY . /") {
		t.Errorf("the log doesn't tell of the steps: %s", &log)
	}
	img := open1(t, "docker-daemon:base:1", o)
	if img.Digest != id || img.Config.Env[len(img.Config.Env)-1] != "A=b" {
		t.Errorf("built %s, got %+v", id, img)
	}
	files := contents(t, img)
	if files["etc/passwd"] == "" || files["Dockerfile"] != "" || files[".dockerignore"] != "" {
		t.Errorf("got other files than were wanted: %q", files)
	}

	t.Run("run, arguments, stages", func(t *testing.T) {
		id, err := build(t.Context(), of("FROM base:1 AS one\nARG WHO=nobody\nRUN echo -n $WHO >/who && ls -a / >/list\nFROM one AS two\nRUN echo two >/who\n"),
			BuildRequest{Args: map[string]string{"WHO": "é & \"x\""}, Target: "one"})
		must(t, err)
		files := contents(t, open1(t, "docker-daemon:"+id, o))
		if files["who"] != `é & "x"` {
			t.Errorf("who is %q", files["who"])
		}
		if strings.Contains(files["list"], ".dockerfile") {
			t.Errorf("the Dockerfile is in the image: %s", files["list"])
		}
	})

	t.Run("no cache", func(t *testing.T) {
		text := "FROM base:1\nRUN echo anew\n"
		for _, fresh := range []bool{false, true} {
			var first, second string
			for _, id := range []*string{&first, &second} {
				var err error
				*id, err = build(t.Context(), of(text), BuildRequest{NoCache: fresh})
				must(t, err)
			}
			if (first != second) != fresh {
				t.Errorf("NoCache %v: built %s and %s", fresh, first, second)
			}
		}
	})

	t.Run("failures", func(t *testing.T) {
		for text, want := range map[string]string{
			"FROM base:1\nRUN echo the end is near; false\n": "the end is near",
			"FROM base:1\nCOPY nothing /\n":                  "nothing",
			"FRO base:1\n":                                   "FRO",
			"":                                               "empty",
			"FROM base:1\nRUN --mount=type=cache,target=/c true\n": "mount",
		} {
			_, err := build(t.Context(), of(text), BuildRequest{})
			if wire.CodeOf(err) != wire.Invalid || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%q: got %v, want invalid with %q", text, err, want)
			}
		}
		var log bytes.Buffer
		_, err := build(t.Context(), of("FROM base:1\nRUN echo spoken; false\n"), BuildRequest{Log: &log})
		if err == nil || !strings.Contains(err.Error(), "\nspoken\n") || !strings.Contains(log.String(), "spoken\n") {
			t.Errorf("got %v and the log %s", err, &log)
		}
		if _, err := build(t.Context(), of("FROM nobody.invalid/none\n"), BuildRequest{}); wire.CodeOf(err) != wire.Unavailable {
			t.Errorf("no registry: got %v, want unavailable", err)
		}
		broken := errors.New("broken")
		if _, err := build(t.Context(), BuildContext{Tar: iotest.ErrReader(broken)}, BuildRequest{}); !errors.Is(err, broken) {
			t.Errorf("got %v, want the reader's error", err)
		}
		small := o
		small.MaxBytes = 10
		if _, err := Build(t.Context(), small, BuildRequest{Context: strings.NewReader(strings.Repeat("x", 11)), File: "Dockerfile"}); wire.CodeOf(err) != wire.Exhausted {
			t.Errorf("got %v, want exhausted", err)
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		log := writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), "begun") && !strings.Contains(string(p), "RUN") {
				cancel()
			}
			return len(p), nil
		})
		if _, err := build(ctx, of("FROM base:1\nRUN echo begun; sleep 1000\n"), BuildRequest{Log: log}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		for range 600 { // the daemon takes its time
			out, err := exec.Command("docker", "--host=unix://"+o.Docker, "ps", "-aq").CombinedOutput()
			must(t, err)
			if len(bytes.TrimSpace(out)) == 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error("the build's container is still there")
	})

	t.Run("two at once", func(t *testing.T) {
		var wg sync.WaitGroup
		ids := make([]string, 2)
		for i := range ids {
			wg.Go(func() {
				var err error
				if ids[i], err = build(t.Context(), of(fmt.Sprintf("FROM base:1\nRUN echo -n %d >/n\n", i)), BuildRequest{Tag: "same"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i, id := range ids {
			if got := contents(t, open1(t, "docker-daemon:"+id, o))["n"]; got != fmt.Sprint(i) {
				t.Errorf("build %d has %q", i, got)
			}
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
