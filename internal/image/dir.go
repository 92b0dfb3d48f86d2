package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/bandsox/bandsox/internal/wire"
)

// openDir reads the whole directory once, for its digest: there is no other
// name for what it holds.
func openDir(ctx context.Context, r reference, o Options) (*Image, error) {
	st, err := os.Stat(r.path)
	if err != nil {
		return nil, fileError("reading directory", r.path, err)
	}
	if !st.IsDir() {
		return nil, wire.Errorf(wire.Invalid, "reading directory %q: it is a file", r.path).
			WithHint("%s:%s or %s:%s", kindDockerArchive, r.path, kindOCIArchive, r.path)
	}
	if skopeoDir(r.path) {
		return nil, wire.Errorf(wire.Invalid, "reading directory %q: it is an image as skopeo's dir: writes it, not a root file system", r.path).
			WithHint("%s", skopeoHint(r.path))
	}
	if exists(filepath.Join(r.path, "oci-layout")) && exists(filepath.Join(r.path, "index.json")) {
		return nil, wire.Errorf(wire.Invalid, "reading directory %q: it is an OCI layout, not a root file system", r.path).
			WithHint("%s:%s", kindLayout, r.path)
	}
	c := &dirContent{path: r.path, progress: o.Progress}
	sum := sha256.New()
	m := &meter{what: "reading " + r.String(), tell: o.Progress}
	size, err := packDir(ctx, r.path, io.MultiWriter(sum, meterWriter{m}), o.limits())
	if err != nil {
		return nil, err
	}
	m.end()
	c.digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return &Image{Digest: c.digest, Source: string(kindDir), Size: size, content: c}, nil
}

// skopeoDir tells what others call dir: (a manifest and blobs) from what we do.
func skopeoDir(path string) bool {
	if !exists(filepath.Join(path, "manifest.json")) {
		return false
	}
	f, err := os.Open(filepath.Join(path, "version"))
	if err != nil {
		return false
	}
	defer f.Close()
	const says = "Directory Transport Version"
	head := make([]byte, len(says))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == says
}

func skopeoHint(path string) string {
	return fmt.Sprintf("skopeo copy dir:%s oci-archive:image.tar, then bandsox run oci-archive:image.tar", path)
}

// dirContent is a directory, read anew each time.
type dirContent struct {
	path     string
	digest   string
	progress func(string, int64, int64)
}

func (c *dirContent) tar(ctx context.Context, w io.Writer, lim Limits) error {
	sum := sha256.New()
	if _, err := packDir(ctx, c.path, io.MultiWriter(w, sum), lim); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != c.digest {
		return wire.Errorf(wire.Conflict, "reading directory %q: it changed while it was read", c.path).
			WithHint("wait until nothing writes to it, or use a copy")
	}
	return nil
}

func (c *dirContent) Close() error { return nil }

type meterWriter struct{ m *meter }

func (w meterWriter) Write(p []byte) (int, error) {
	w.m.add(int64(len(p)))
	return len(p), nil
}
