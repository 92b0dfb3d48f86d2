package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bandsox/bandsox"
)

// benchBase compares an image's way from a registry to a file system: ours in
// one pass, and the tools that a script would use.
func benchBase(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, rounds int) error {
	peer := ""
	for _, tool := range []string{"skopeo", "umoci", "mke2fs"} {
		if _, err := exec.LookPath(tool); err != nil {
			peer = "needs " + tool + " on PATH"
		}
	}
	if os.Geteuid() != 0 {
		peer = "needs root to unpack an image as its owners"
	}
	var ours, theirs samples
	for range rounds {
		if err := m.RemoveImage(ctx, in.ref); err != nil && codeOf(err) != bandsox.CodeNotFound {
			return err
		}
		d, err := timed(func() error { _, err := m.Pull(ctx, in.ref); return err })
		if err != nil {
			return err
		}
		ours = append(ours, d)
		if peer != "" {
			continue
		}
		d, err = timed(func() error { return unpack(ctx, in) })
		if err != nil {
			return err
		}
		theirs = append(theirs, d)
		if err := os.RemoveAll(filepath.Join(in.dir, "unpack")); err != nil {
			return err
		}
	}
	img, err := m.Image(ctx, in.ref)
	if err != nil {
		return err
	}
	r.add(row{What: "base from a registry", Unit: "s", Ours: ours.median(), Peer: "skopeo copy + umoci unpack + mke2fs -d",
		Their: theirs.median(), Bar: "ratio <= 0.35", Runs: rounds,
		Note: fmt.Sprintf("%d MiB compressed, %d MiB as a file system; ours is flushed to the disk, theirs is not", img.ImageBytes>>20, img.BaseBytes>>20)})
	if peer != "" {
		r.note("skopeo + umoci + mke2fs: %s", peer)
	}
	return nil
}

func unpack(ctx context.Context, in *inputs) error {
	dir := filepath.Join(in.dir, "unpack")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	oci, bundle := filepath.Join(dir, "oci"), filepath.Join(dir, "bundle")
	for _, args := range [][]string{
		{"skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "docker://" + in.ref, "oci:" + oci + ":1"},
		{"umoci", "unpack", "--image", oci + ":1", bundle},
		{"mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(bundle, "rootfs"), filepath.Join(dir, "base.ext4"), "512M"},
	} {
		if err := check(exec.CommandContext(ctx, args[0], args[1:]...)); err != nil {
			return err
		}
	}
	return nil
}
