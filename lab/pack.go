package main

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/bandsox/bandsox/internal/disk"
)

// file is something to bring along: what /lab/<name> shall be.
type file struct{ name, path string }

// pack makes a file system of files, by BandSox's own way from a tar stream.
func pack(ctx context.Context, to string, files []file) error {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		for _, f := range files {
			if err := add(t, f); err != nil {
				w.CloseWithError(fmt.Errorf("bringing %s along: %w", f.path, err))
				return
			}
		}
		w.CloseWithError(t.Close())
	}()
	defer r.Close()
	return disk.BuildBase(ctx, to, r, disk.BaseOptions{})
}

// add writes a file, or a directory with what is in it.
func add(t *tar.Writer, f file) error {
	root, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if fi.Mode().Type() == fs.ModeSymlink {
			if link, err = os.Readlink(p); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(fi, link)
		if err != nil {
			return err
		}
		h.Name = path.Join(f.name, filepath.ToSlash(rel))
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		if err := t.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		in, err := os.Open(p)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(t, in)
		return err
	})
}
