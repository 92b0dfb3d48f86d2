package image

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

func TestRealDocker(t *testing.T) {
	o := options(t)
	o.Docker = vmtest.Dockerd(t)
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("docker", append([]string{"--host=unix://" + o.Docker}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %q: %v: %s", args, err, out)
		}
		return string(bytes.TrimSpace(out))
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("thing:1")
	must(t, err)
	// Debian's docker knows no zstd.
	want := makeImageOf(t, []compression.Compression{compression.GZip}, threeLayers...)
	must(t, tarball.WriteToFile(file, tag, want))
	docker("load", "-i", file)
	id := docker("inspect", "--format={{.Id}}", "thing:1")

	for _, ref := range []string{"docker-daemon:thing:1", "thing:1", "docker-daemon:" + id, "docker-daemon:" + id[len("sha256:"):][:12]} {
		img := open1(t, ref, o)
		if img.Digest != id || img.Source != "docker" {
			t.Errorf("%s: got %+v", ref, img)
		}
		if d := cmp.Diff(wantConfig, img.Config); d != "" {
			t.Error(ref, d)
		}
		if d := cmp.Diff(threeLayersFlat, contents(t, img)); d != "" {
			t.Error(ref, d)
		}
	}

	// What docker save writes is a docker-archive.
	saved := filepath.Join(t.TempDir(), "saved.tar")
	docker("save", "-o", saved, "thing:1")
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, "docker-archive:"+saved+":thing:1", o))); d != "" {
		t.Error(d)
	}

	// An export that is cancelled leaves nothing, and can be tried again.
	img := open1(t, "thing:1", o)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	rc, err := img.Tar(ctx)
	must(t, err)
	if _, err := rc.Read(make([]byte, 1)); err == nil {
		t.Error("no error of a cancelled export")
	}
	rc.Close()
	if d := cmp.Diff(threeLayersFlat, contents(t, img)); d != "" {
		t.Error(d)
	}
}
