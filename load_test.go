package bandsox

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestLoadNames: an image out of docker save goes by its names there, as docker
// load has it, and not by "docker-archive:-".
func TestLoadNames(t *testing.T) {
	vmtest.Image(t) // or it skips: bases need mke2fs
	ctx := t.Context()
	m := newManager(t, t.TempDir())
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: Arch, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	first, second := name.MustParseReference("app:1"), name.MustParseReference("registry.example/team/app:latest")
	var archive bytes.Buffer
	if err := tarball.MultiRefWrite(map[name.Reference]v1.Image{first: img, second: img}, &archive); err != nil {
		t.Fatal(err)
	}
	got, err := m.Load(ctx, "docker-archive:-", &archive)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Refs)
	if want := []string{"docker.io/library/app:1", "registry.example/team/app:latest"}; !slices.Equal(got.Refs, want) {
		t.Errorf("names %q, want %q", got.Refs, want)
	}
	for _, ref := range []string{"app:1", "registry.example/team/app"} {
		if one, err := m.Image(ctx, ref); err != nil || one.Digest != got.Digest {
			t.Errorf("%s: %+v %v", ref, one, err)
		}
	}
}
