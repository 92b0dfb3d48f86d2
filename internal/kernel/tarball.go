package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/bandsox/bandsox/internal/wire"
)

const maxTarEntries = 100_000

// FetchTarball fetches a tar archive, compressed or not, and unpacks it into
// dir: files, directories and links that stay inside, without owners, devices
// or set-id bits. dir is made when it doesn't exist; files in it with the same
// names are replaced, one after the other, once the whole archive was read and
// found good. o.MaxBytes bounds the archive and what comes out of it.
func FetchTarball(ctx context.Context, source, dir string, o FetchOptions) (err error) {
	o, err = o.withDefaults(path.Base(shown(source)))
	if err != nil {
		return err
	}
	// All beside dir, so that what was unpacked can be renamed into it. The
	// archive has a fixed name, so that a later call goes on with its download.
	dir = filepath.Clean(dir)
	file := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".tar")
	out := file + ".out"
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fail(err, "unpacking into %q", dir)
	}
	l, err := lock(ctx, file+".lock")
	if err != nil {
		return fail(err, "unpacking into %q", dir)
	}
	defer l.Close()
	defer os.Remove(l.Name())
	if err := Fetch(ctx, source, file, o); err != nil {
		return err
	}
	defer os.Remove(file)
	defer os.RemoveAll(out)
	if err := errors.Join(os.RemoveAll(out), os.Mkdir(out, 0o755)); err != nil {
		return fail(err, "unpacking into %q", dir)
	}
	if err := untarFile(ctx, file, out, o.MaxBytes); err != nil {
		return fail(err, "unpacking %q", shown(source))
	}
	return fail(moveInto(out, dir), "unpacking into %q", dir)
}

func untarFile(ctx context.Context, file, out string, limit int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := decompress(f)
	if err != nil {
		return badTar(err)
	}
	defer z.Close()
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	return untar(ctx, bounded(z, limit), root)
}

func badTar(err error) error { return wire.Errorf(wire.Invalid, "not a whole tar archive: %w", err) }

// untar unpacks below root, which no entry can leave: os.Root resolves every
// name inside it.
func untar(ctx context.Context, r io.Reader, root *os.Root) error {
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badTar(err)
		}
		if n >= maxTarEntries {
			return badTar(fmt.Errorf("more than %d entries", maxTarEntries))
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return badTar(fmt.Errorf("the entry %q leads out of the directory", h.Name))
		}
		if name == "." {
			continue
		}
		if err := unpackEntry(root, name, h, tr); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	perm := fs.FileMode(h.Mode) & 0o755
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := root.RemoveAll(name); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm|0o600)
		if err != nil {
			return err
		}
		if err := transfer(f, r, badTar); err != nil {
			f.Close()
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	case tar.TypeSymlink:
		if !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) || path.IsAbs(h.Linkname) {
			return badTar(fmt.Errorf("the link %q leads out of the directory", h.Name))
		}
		if err := root.RemoveAll(name); err != nil {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		if !filepath.IsLocal(h.Linkname) {
			return badTar(fmt.Errorf("the link %q leads out of the directory", h.Name))
		}
		if err := root.RemoveAll(name); err != nil {
			return err
		}
		return root.Link(h.Linkname, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return badTar(fmt.Errorf("the entry %q is of type %q, which isn't unpacked", h.Name, h.Typeflag))
}

// moveInto renames what is in from into to. When to doesn't exist, that is one
// step; else files go one by one, and directories are merged.
func moveInto(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return syncDir(filepath.Dir(to))
	}
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dst, 0o755)
		}
		return os.Rename(p, dst)
	})
}
