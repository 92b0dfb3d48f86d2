package bandsox

import (
	"context"
	"io"
	"strings"

	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/wire"
)

// Load brings the image in an archive into the local store, as docker save or
// skopeo write it, by the names that a docker archive has for it, as docker load
// does. ref is docker-archive:- or oci-archive:-, with :TAG behind it
// where the archive holds several.
func (m *Manager) Load(ctx context.Context, ref string, r io.Reader) (Image, error) {
	img, err := m.loadArchive(ctx, ref, r)
	return img, fail("load", ref, err)
}

func (m *Manager) loadArchive(ctx context.Context, ref string, r io.Reader) (Image, error) {
	if !strings.HasPrefix(ref, "docker-archive:-") && !strings.HasPrefix(ref, "oci-archive:-") {
		return Image{}, wire.Errorf(CodeInvalid, "%q is no archive from standard input", ref).WithHint("docker-archive:- or oci-archive:-")
	}
	o := m.imageOptions(ctx)
	o.Stdin = r
	src, err := image.Open(ctx, ref, o)
	if err != nil {
		return Image{}, err
	}
	if len(src.Names) > 0 {
		src.Ref = src.Names[0]
	}
	img, err := m.keep(ctx, src)
	if err != nil {
		return Image{}, err
	}
	for _, name := range src.Names[min(1, len(src.Names)):] {
		if err := m.store.TagImage(ctx, name, img.Digest); err != nil {
			return Image{}, err
		}
	}
	return m.Image(ctx, img.Digest)
}
