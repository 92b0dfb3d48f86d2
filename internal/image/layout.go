package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ociLayout is an OCI image layout, in a directory or in a tar file.
type ociLayout struct{ files }

func openLayout(ctx context.Context, r reference, o Options) (*Image, error) {
	if st, err := os.Stat(r.path); err == nil && !st.IsDir() {
		return nil, wire.Errorf(wire.Invalid, "reading OCI layout %q: it is a file", r.path).
			WithHint("%s:%s", kindOCIArchive, r.path)
	}
	root, err := os.OpenRoot(r.path)
	if err != nil {
		return nil, fileError("reading OCI layout", r.path, err)
	}
	img, err := ociLayout{dirFiles{root}}.image(ctx, r, o, root.Close)
	if err != nil {
		root.Close()
	}
	return img, err
}

func openOCIArchive(ctx context.Context, r reference, o Options) (*Image, error) {
	t, err := openArchive(ctx, r.path, o)
	if err != nil {
		return nil, err
	}
	img, err := ociLayout{t}.image(ctx, r, o, t.f.Close)
	if err != nil {
		t.f.Close()
	}
	return img, err
}

func (l ociLayout) image(ctx context.Context, r reference, o Options, closeFiles func() error) (*Image, error) {
	want, err := o.platform()
	if err != nil {
		return nil, err
	}
	index, err := readFile(l.files, "index.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wire.Errorf(wire.Invalid, "reading OCI layout %q: there is no index.json in it", r.path).
			WithHint("docker-archive:FILE for what docker save writes, dir:DIR for a plain directory of files")
	}
	if err != nil {
		return nil, err
	}
	d, err := pick(index, r.tag, want)
	if err != nil {
		return nil, err
	}
	raw, err := l.manifest(ctx, d)
	if err == nil {
		err = checkDigest(raw, d.Digest, "manifest")
	}
	if err != nil {
		return nil, err
	}
	res, err := resolve(ctx, l, raw, want)
	if err != nil {
		return nil, err
	}
	return &Image{
		Digest: res.digest, Config: res.config.Config.config(), Source: string(r.kind), Size: res.size,
		content: newLayered(res.blobs(l, false), "unpacking "+r.String(), o, closeFiles),
	}, nil
}

func (l ociLayout) manifest(_ context.Context, d v1.Descriptor) ([]byte, error) {
	return readFile(l.files, blobPath(d.Digest), maxManifest)
}

func (l ociLayout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	rc, _, err := l.open(blobPath(d.Digest))
	return rc, memberError(blobPath(d.Digest), err)
}

// blobPath is safe: a v1.Hash that was parsed has only letters and digits.
func blobPath(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

func readFile(t files, name string, limit int64) ([]byte, error) {
	rc, _, err := t.open(name)
	if err != nil {
		return nil, memberError(name, err)
	}
	defer rc.Close()
	return readBounded(rc, limit, name)
}

func memberError(name string, err error) error {
	if err == nil {
		return nil
	}
	return wire.Errorf(wire.Invalid, "reading %s: %w", name, err)
}

// How layouts say what an image is called.
var refNames = []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"}

// pick finds the image that tag means in a layout's index; it may be left out
// when there is one.
func pick(index []byte, tag string, want v1.Platform) (v1.Descriptor, error) {
	var m manifest
	if err := json.Unmarshal(index, &m); err != nil {
		return v1.Descriptor{}, wire.Errorf(wire.Invalid, "reading index.json: %w", err)
	}
	var found []v1.Descriptor
	var names []string
	for _, d := range m.Manifests {
		ok := tag == "" || tag == d.Digest.String()
		called := d.Digest.String()
		for _, key := range refNames {
			if n := d.Annotations[key]; n != "" {
				called = n
				ok = ok || n == tag
			}
		}
		names = append(names, called)
		if ok && (d.Platform == nil || fits(*d.Platform, want) > 0 || len(m.Manifests) == 1) {
			found = append(found, d)
		}
	}
	have := strings.Join(names[:min(len(names), 20)], ", ")
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(names) == 0:
		return v1.Descriptor{}, wire.Errorf(wire.NotFound, "reading index.json: there is no image in it")
	case len(found) == 0 && tag != "":
		return v1.Descriptor{}, wire.Errorf(wire.NotFound, "reading index.json: no image %q for %s; there are: %s", tag, want, have)
	case len(found) == 0:
		return choose(m.Manifests, want)
	}
	return v1.Descriptor{}, wire.Errorf(wire.Invalid, "reading index.json: there are several images: %s", have).
		WithHint("name one after the path: PATH:%s", names[0])
}
