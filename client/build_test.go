package client_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func TestBuild(t *testing.T) {
	c := dial(t)
	root := vmtest.Busybox(t)
	t.Setenv("DOCKER_HOST", "unix://"+vmtest.Dockerd(t))
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nARG A\nCOPY . /\nENV A=$A\nRUN echo it speaks\n", ".dockerignore": "secret", "secret": "s"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	var told atomic.Int32
	ctx := bandsox.WithProgress(t.Context(), func(string, int64, int64) { told.Add(1) })
	img, err := c.Build(ctx, bandsox.BuildOptions{Dir: root, Tag: "box:1", Args: map[string]string{"A": "b&c=d"}, Log: &log})
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if !strings.Contains(log.String(), "it speaks\n") || told.Load() == 0 {
		t.Errorf("told of %d times, the log is %s", told.Load(), &log)
	}
	if !strings.Contains(strings.Join(img.Config.Env, " "), "A=b&c=d") || strings.Join(img.Refs, " ") != "docker.io/library/box:1" {
		t.Errorf("got %+v", img)
	}

	_, err = c.Build(t.Context(), bandsox.BuildOptions{Dockerfile: strings.NewReader("FROM box:1\nRUN ls / && ls /secret\n"), NoCache: true})
	if !errors.Is(err, bandsox.ErrInvalid) || !strings.Contains(err.Error(), "/secret: No such file") {
		t.Errorf("got %v, want invalid with the end of the output", err)
	}
	unreadable := t.TempDir()
	if _, err := c.Build(t.Context(), bandsox.BuildOptions{Dir: unreadable}); !errors.Is(err, bandsox.ErrInvalid) {
		t.Errorf("no Dockerfile: got %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := writer(func(p []byte) {
		if bytes.Contains(p, []byte("Running in")) {
			cancel()
		}
	})
	if _, err := c.Build(ctx, bandsox.BuildOptions{Dockerfile: strings.NewReader("FROM box:1\nRUN sleep 1000\n"), Log: stop}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
