package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds on what is read into memory. Real manifests and configs are a few
// KiB; the registries' own limit for a manifest is 4 MiB.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxNesting  = 4 // indexes in indexes
)

// blobStore keeps blobs under their digests: a repository in a registry, or an
// OCI layout. Their readers check the digests.
type blobStore interface {
	manifest(ctx context.Context, d v1.Descriptor) ([]byte, error)
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// manifest is an image's manifest or an index: the fields tell which.
type manifest struct {
	MediaType types.MediaType `json:"mediaType"`
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Manifests []v1.Descriptor `json:"manifests"`
	FSLayers  json.RawMessage `json:"fsLayers"` // docker's schema 1
}

// resolved is an image manifest with its config.
type resolved struct {
	digest string
	config *configFile
	layers []v1.Descriptor
	ids    []v1.Hash
	size   int64
}

// resolve follows indexes from the manifest raw to the image for want.
func resolve(ctx context.Context, s blobStore, raw []byte, want v1.Platform) (*resolved, error) {
	for range maxNesting {
		var m manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, wire.Errorf(wire.Invalid, "reading manifest: %w", err)
		}
		switch {
		case len(m.FSLayers) > 0:
			return nil, wire.Errorf(wire.Invalid, "reading manifest: docker's schema 1, which is no longer in use").
				WithHint("docker pull it and docker push it again, with a docker of after 2017")
		case m.Config != nil:
			return resolveImage(ctx, s, raw, &m, want)
		case !m.MediaType.IsIndex() && len(m.Manifests) == 0:
			return nil, wire.Errorf(wire.Invalid, "reading manifest: neither an image nor an index of images")
		}
		d, err := choose(m.Manifests, want)
		if err != nil {
			return nil, err
		}
		if raw, err = s.manifest(ctx, d); err != nil {
			return nil, err
		}
		if err := checkDigest(raw, d.Digest, "manifest"); err != nil {
			return nil, err
		}
	}
	return nil, wire.Errorf(wire.Invalid, "reading manifest: indexes nested more than %d deep", maxNesting)
}

func resolveImage(ctx context.Context, s blobStore, raw []byte, m *manifest, want v1.Platform) (*resolved, error) {
	if t := m.Config.MediaType; t != "" && !t.IsConfig() {
		return nil, wire.Errorf(wire.Invalid, "reading manifest: not a container image but an artifact with a config of type %q", t)
	}
	rc, err := s.blob(ctx, *m.Config)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	config, err := readBounded(rc, maxConfig, "image config")
	if err != nil {
		return nil, err
	}
	if err := checkDigest(config, m.Config.Digest, "image config"); err != nil {
		return nil, err
	}
	r := &resolved{digest: digestOf(raw), layers: m.Layers}
	if r.config, err = parseConfig(config, want); err != nil {
		return nil, err
	}
	if r.ids, err = r.config.layerIDs(len(m.Layers)); err != nil {
		return nil, err
	}
	for _, l := range m.Layers {
		if err := checkLayer(l); err != nil {
			return nil, err
		}
		r.size += l.Size
	}
	return r, nil
}

// maxLayerSize keeps sums of sizes far from overflowing.
const maxLayerSize = 1 << 50

func checkLayer(d v1.Descriptor) error {
	switch {
	case d.Size < 0 || d.Size > maxLayerSize:
		return wire.Errorf(wire.Invalid, "reading manifest: layer %s has a size of %d bytes", d.Digest, d.Size)
	case strings.HasSuffix(string(d.MediaType), "+encrypted"):
		return wire.Errorf(wire.Invalid, "reading manifest: layer %s is encrypted", d.Digest)
	case d.MediaType != "" && !d.MediaType.IsLayer() && !strings.Contains(string(d.MediaType), ".tar"):
		return wire.Errorf(wire.Invalid, "reading manifest: layer %s is no tar file but %q", d.Digest, d.MediaType)
	}
	return nil
}

// choose picks the image for want from an index. A platform that an index
// doesn't give is taken for the wanted one: the config will tell.
func choose(ds []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	best, bestScore := -1, 0
	var have []string
	for i, d := range ds {
		if d.MediaType != "" && !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		score := 1
		if p := d.Platform; p != nil {
			// unknown/unknown is how buildkit marks its attestations.
			if p.OS != "unknown" && !slices.Contains(have, p.String()) {
				have = append(have, p.String())
			}
			if score = fits(*p, want); score == 0 {
				continue
			}
		}
		if score > bestScore {
			best, bestScore = i, score
		}
	}
	if best >= 0 {
		return ds[best], nil
	}
	offer := "it has no image at all"
	if len(have) > 0 {
		offer = "it has " + strings.Join(have[:min(len(have), 20)], ", ")
	}
	return v1.Descriptor{}, wire.Errorf(wire.NotFound, "no image for %s; %s", want, offer).
		WithHint("use an image that is built for %s", want)
}

// fits scores how well p serves want: 0 not at all, and the variant asked for,
// or the plain one, before the others.
func fits(p, want v1.Platform) int {
	if p.OS != want.OS || p.Architecture != want.Architecture {
		return 0
	}
	plain := func(v string) string {
		if p.Architecture == "arm64" && v == "v8" || p.Architecture == "amd64" && v == "v1" {
			return "" // other words for the same thing
		}
		return v
	}
	have, need := plain(p.Variant), plain(want.Variant)
	switch {
	case have == need:
		return 4
	case have == "":
		return 3
	case need == "" && p.Architecture == "arm":
		return 2 // any arm, when no one said which
	case need != "" && have < need:
		return 2 // v6 programs run on v7
	}
	return 0
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func checkDigest(b []byte, want v1.Hash, what string) error {
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return wire.Errorf(wire.Invalid, "reading %s: %w", what, err)
	}
	h.Write(b)
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		return wire.Errorf(wire.Invalid, "reading %s: its content is not that of %s", what, want)
	}
	return nil
}

// readBounded reads all of r, which must be no more than limit bytes.
func readBounded(r io.Reader, limit int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	var coded *wire.Error
	switch {
	case errors.As(err, &coded):
		return nil, err
	case err != nil:
		return nil, wire.Errorf(wire.Unavailable, "reading %s: %w", what, err)
	case int64(len(b)) > limit:
		return nil, wire.Errorf(wire.Invalid, "reading %s: more than the %s that are allowed", what, inUnits(limit))
	}
	return b, nil
}

// blobs are the layers of r as they are kept in s.
func (r *resolved) blobs(s blobStore, remote bool) []blob {
	var bs []blob
	for i, d := range r.layers {
		bs = append(bs, blob{
			name: fmt.Sprint(d.Digest), diffID: r.ids[i], size: d.Size, remote: remote,
			open: func(ctx context.Context) (io.ReadCloser, error) { return s.blob(ctx, d) },
		})
	}
	return bs
}
