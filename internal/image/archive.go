package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// archiveImage is one image in what docker save writes.
type archiveImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func openDockerArchive(ctx context.Context, r reference, o Options) (*Image, error) {
	want, err := o.platform()
	if err != nil {
		return nil, err
	}
	t, err := openArchive(ctx, r.path, o)
	if err != nil {
		return nil, err
	}
	a, err := readArchive(t, r.tag, want)
	if err != nil {
		t.f.Close()
		return nil, err
	}
	return &Image{
		Names:  a.names,
		Digest: a.digest, Config: a.config.Config.config(), Source: string(r.kind), Size: a.size,
		content: newLayered(a.blobs, "unpacking "+r.String(), o, t.f.Close),
	}, nil
}

type archive struct {
	names  []string
	digest string // of the config
	config *configFile
	blobs  []blob
	size   int64
}

// readArchive reads manifest.json and what it points to.
func readArchive(t files, tag string, want v1.Platform) (*archive, error) {
	raw, err := readFile(t, "manifest.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wire.Errorf(wire.Invalid, "reading archive: there is no manifest.json in it").
			WithHint("oci-archive:FILE for an OCI layout; a plain root file system must be unpacked: dir:DIR")
	}
	if err != nil {
		return nil, err
	}
	var images []archiveImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, wire.Errorf(wire.Invalid, "reading manifest.json: %w", err)
	}
	img, err := pickArchived(images, tag)
	if err != nil {
		return nil, err
	}
	config, err := readFile(t, img.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	a := &archive{digest: digestOf(config)}
	if a.config, err = parseConfig(config, want); err != nil {
		return nil, err
	}
	ids, err := a.config.layerIDs(len(img.Layers))
	if err != nil {
		return nil, err
	}
	for _, tag := range img.RepoTags {
		if name, err := parse(tag); err == nil && name.kind == kindName {
			a.names = append(a.names, name.String())
		}
	}
	for i, file := range img.Layers {
		rc, size, err := t.open(file)
		if err != nil {
			return nil, memberError(file, err)
		}
		rc.Close()
		a.size += size
		a.blobs = append(a.blobs, blob{
			name: ids[i].String(), diffID: ids[i], size: size,
			open: func(context.Context) (io.ReadCloser, error) {
				rc, _, err := t.open(file)
				return rc, memberError(file, err)
			},
		})
	}
	return a, nil
}

// pickArchived finds the image that tag means: a whole name, or a tag alone.
func pickArchived(images []archiveImage, tag string) (archiveImage, error) {
	var names []string
	for _, img := range images {
		names = append(names, img.RepoTags...)
		if tag == "" && len(images) == 1 || slices.ContainsFunc(img.RepoTags, func(t string) bool { return sameTag(t, tag) }) {
			return img, nil
		}
	}
	have := strings.Join(names[:min(len(names), 20)], ", ")
	switch {
	case len(images) == 0:
		return archiveImage{}, wire.Errorf(wire.NotFound, "reading manifest.json: there is no image in it")
	case tag != "":
		return archiveImage{}, wire.Errorf(wire.NotFound, "reading manifest.json: no image %q; there are: %s", tag, have)
	}
	e := wire.Errorf(wire.Invalid, "reading manifest.json: there are %d images: %s", len(images), have)
	if len(names) > 0 {
		return archiveImage{}, e.WithHint("name one after the path: docker-archive:FILE:%s", names[0])
	}
	return archiveImage{}, e
}

func sameTag(have, want string) bool {
	if want == "" {
		return false
	}
	h, err := name.NewTag(have)
	if err != nil {
		return have == want
	}
	if h.TagStr() == want {
		return true
	}
	w, err := name.NewTag(want)
	return err == nil && w.Name() == h.Name()
}
