package bandsox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// PullPolicy says when an image is looked for outside the local store.
type PullPolicy string

// The policies.
const (
	PullMissing PullPolicy = "missing" // when the local store hasn't got it; the default
	PullAlways  PullPolicy = "always"  // also when it has: the name may stand for a newer one
	PullNever   PullPolicy = "never"
)

// Image is an image in the local store: a base, and what is known of it.
type Image struct {
	Digest         string      `json:"digest"`
	Refs           []string    `json:"refs"` // the names that stand for it
	Source         string      `json:"source"`
	Config         ImageConfig `json:"config"`
	ImageBytes     int64       `json:"image_bytes"`     // as it came, compressed; 0 where unknown
	BaseBytes      int64       `json:"base_bytes"`      // of the base, as files see it
	AllocatedBytes int64       `json:"allocated_bytes"` // of the base, on the disk
	CreatedAt      time.Time   `json:"created_at"`      // of the base
	UsedBy         []string    `json:"used_by"`         // ids of sandboxes
}

// Pull brings an image into the local store, whatever is there already.
func (m *Manager) Pull(ctx context.Context, ref string) (Image, error) {
	img, err := m.base(ctx, ref, PullAlways)
	return img, fail("pull", ref, err)
}

// Images lists the local store.
func (m *Manager) Images(ctx context.Context) ([]Image, error) {
	refs, err := m.store.Images(ctx)
	if err != nil {
		return nil, fail("list images", "", err)
	}
	rows, err := m.store.List(ctx)
	if err != nil {
		return nil, fail("list images", "", err)
	}
	paths, err := filepath.Glob(filepath.Join(m.store.Bases(), "*.json"))
	if err != nil {
		return nil, fail("list images", "", err)
	}
	list := []Image{}
	for _, path := range paths {
		var img Image
		if err := store.ReadJSON(path, &img); err != nil || !store.ValidDigest(img.Digest) {
			m.log.Warn("skipping a damaged base", "file", path, "err", err)
			continue
		}
		img.Refs, img.UsedBy = []string{}, []string{}
		for _, r := range refs {
			if r.Digest == img.Digest {
				img.Refs = append(img.Refs, r.Ref)
			}
		}
		for _, row := range rows {
			if info, err := decode(row); err == nil && info.Digest == img.Digest {
				img.UsedBy = append(img.UsedBy, row.ID)
			}
		}
		list = append(list, img)
	}
	slices.SortFunc(list, func(a, b Image) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list, nil
}

// Image finds one image of the local store by name, digest, or the beginning
// of a digest.
func (m *Manager) Image(ctx context.Context, ref string) (Image, error) {
	list, err := m.Images(ctx)
	if err != nil {
		return Image{}, err
	}
	name, _ := image.Normalize(ref)
	var found []Image
	for _, img := range list {
		if slices.Contains(img.Refs, name) || slices.Contains(img.Refs, ref) {
			return img, nil
		}
		digits := strings.TrimPrefix(ref, "sha256:")
		if len(digits) >= 6 && strings.HasPrefix(img.Digest, "sha256:"+digits) {
			found = append(found, img)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Image{}, fail("image", ref, wire.Errorf(wire.NotFound, "not in the local store").WithHint("bandsox image pull %s", ref))
	}
	return Image{}, fail("image", ref, wire.Errorf(wire.Conflict, "%d images begin so", len(found)).WithHint("give more digits"))
}

// RemoveImage forgets a name; with the last name of an image, or given by
// digest, its base goes too. It is a conflict while a sandbox is made from it.
func (m *Manager) RemoveImage(ctx context.Context, ref string) error {
	img, err := m.Image(ctx, ref)
	if err != nil {
		return err
	}
	name, _ := image.Normalize(ref)
	if slices.Contains(img.Refs, name) && len(img.Refs) > 1 {
		return fail("remove image", ref, m.store.UntagImage(ctx, name))
	}
	return fail("remove image", ref, m.removeBase(ctx, img))
}

// PruneImages removes the images that no name stands for, or with all every
// one, unless a sandbox is made from it, and returns what it removed.
func (m *Manager) PruneImages(ctx context.Context, all bool) ([]Image, error) {
	list, err := m.Images(ctx)
	if err != nil {
		return nil, err
	}
	removed := []Image{}
	for _, img := range list {
		if len(img.UsedBy) > 0 || len(img.Refs) > 0 && !all {
			continue
		}
		err := m.removeBase(ctx, img)
		if classify(err) == CodeConflict && err != nil {
			continue // a sandbox came between
		}
		if err != nil {
			return removed, fail("prune", img.Digest, err)
		}
		removed = append(removed, img)
	}
	return removed, nil
}

func (m *Manager) removeBase(ctx context.Context, img Image) error {
	lock, err := m.store.LockBase(ctx, img.Digest)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rows, err := m.store.List(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if info, err := decode(row); err == nil && info.Digest == img.Digest {
			return wire.Errorf(wire.Conflict, "sandbox %s is made from it", row.ID).WithHint("bandsox rm -f %s", row.ID)
		}
	}
	if err := m.freeSnapshots(img.Digest); err != nil {
		return err
	}
	for _, r := range img.Refs {
		if err := m.store.UntagImage(ctx, r); err != nil {
			return err
		}
	}
	// The sidecar goes first, since a base without one is not there.
	for _, path := range []string{m.store.BaseInfo(img.Digest), m.store.Base(img.Digest)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// base returns the base of an image, building it if it is not there. Many at
// once, in one process or in several, build it once.
func (m *Manager) base(ctx context.Context, ref string, pull PullPolicy) (Image, error) {
	name, err := image.Normalize(ref)
	digest := strings.HasPrefix(ref, "sha256:")
	if err != nil && !digest {
		return Image{}, err
	}
	// What an archive or a directory holds is known only by looking.
	if local := digest || image.IsName(ref) || strings.HasPrefix(name, "bandsox/base:"); local && pull != PullAlways {
		img, err := m.Image(ctx, ref)
		if err == nil || classify(err) != CodeNotFound {
			return img, err
		}
		if pull == PullNever || digest {
			return Image{}, wire.Errorf(CodeNotFound, "image %q is not in the local store", ref).WithHint("bandsox image pull %s", name)
		}
	}
	src, err := image.Open(ctx, ref, m.imageOptions(ctx))
	if err != nil {
		return Image{}, err
	}
	return m.keep(ctx, src)
}

// keep builds the base of an image, unless it is there, and gives it its name.
func (m *Manager) keep(ctx context.Context, src *image.Image) (Image, error) {
	defer src.Close()
	img, err := m.build(ctx, src)
	if err != nil {
		return Image{}, err
	}
	return img, m.store.TagImage(ctx, src.Ref, src.Digest)
}

func (m *Manager) build(ctx context.Context, src *image.Image) (Image, error) {
	lock, err := m.store.LockBase(ctx, src.Digest)
	if err != nil {
		return Image{}, err
	}
	defer lock.Unlock()
	var img Image
	if err := store.ReadJSON(m.store.BaseInfo(src.Digest), &img); err == nil {
		if size, _, err := disk.Usage(m.store.Base(src.Digest)); err == nil && size == img.BaseBytes {
			return img, nil
		}
	}
	tar, err := src.Tar(ctx)
	if err != nil {
		return Image{}, err
	}
	path := filepath.Join(m.store.Scratch(), filepath.Base(m.store.Base(src.Digest)))
	err = disk.BuildBase(ctx, path, tar, disk.BaseOptions{})
	if cerr := tar.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = store.Publish(path, m.store.Base(src.Digest))
	}
	if err != nil {
		return Image{}, err
	}
	size, allocated, err := disk.Usage(m.store.Base(src.Digest))
	if err != nil {
		return Image{}, err
	}
	img = Image{Digest: src.Digest, Refs: []string{src.Ref}, Source: src.Source, Config: src.Config,
		ImageBytes: src.Size, BaseBytes: size, AllocatedBytes: allocated, CreatedAt: time.Now().UTC()}
	return img, m.store.WriteJSON(m.store.BaseInfo(src.Digest), img)
}

func (m *Manager) imageOptions(ctx context.Context) image.Options {
	s := m.cfg.Images
	return image.Options{Docker: s.Docker, Mirrors: s.Mirrors, Insecure: s.Insecure, CAFiles: s.CAFiles,
		Platform: "linux/" + Arch, MaxBytes: s.MaxBytes, DebianMirror: debianMirror(s.DebianMirror), Stdin: s.Stdin, Scratch: m.store.Scratch(), Progress: m.progress(ctx)}
}
