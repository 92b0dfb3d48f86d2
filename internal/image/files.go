package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// files is a flat view of files, in a directory or in a tar file. Names have
// slashes and no dots; none leads out of the tree.
type files interface {
	open(name string) (io.ReadCloser, int64, error)
}

// dirFiles is a directory. os.Root keeps even symbolic links inside it.
type dirFiles struct{ root *os.Root }

func (t dirFiles) open(name string) (io.ReadCloser, int64, error) {
	f, err := t.root.Open(path.Clean(name))
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// tarFiles is a tar file, indexed once, whose files are read in place.
type tarFiles struct {
	f     *os.File
	index map[string]section
}

type section struct{ off, size int64 }

// maxArchiveFiles bounds the index of an archive: layers, configs and the
// files docker once wrote for each layer, not the files in the layers.
const maxArchiveFiles = 100_000

// indexTar reads f's headers, and skips the rest.
func indexTar(ctx context.Context, f *os.File) (*tarFiles, error) {
	t := &tarFiles{f: f, index: map[string]section{}}
	links := map[string]string{} // docker save links layers that are the same
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, wire.Errorf(wire.Unavailable, "reading archive: %w", err)
	}
	tr := tar.NewReader(f)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, wire.Errorf(wire.Invalid, "reading archive: %w", err)
		}
		if n == maxArchiveFiles {
			return nil, wire.Errorf(wire.Invalid, "reading archive: more than %d files in it", maxArchiveFiles)
		}
		name := path.Join("/", h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			off, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			t.index[name] = section{off, h.Size}
		case tar.TypeSymlink:
			links[name] = path.Join("/", path.Dir(name), h.Linkname)[1:]
		case tar.TypeLink:
			links[name] = path.Join("/", h.Linkname)[1:]
		}
	}
	for name := range links {
		to := name
		for range 8 {
			if next, ok := links[to]; ok {
				to = next
			}
		}
		if s, ok := t.index[to]; ok {
			t.index[name] = s
		}
	}
	return t, nil
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	s, ok := t.index[path.Join("/", name)[1:]]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(t.f, s.off, s.size)), s.size, nil
}

// openArchive indexes the tar file at path, or on standard input, which is
// copied to a temporary file first, as is an archive that is compressed.
func openArchive(ctx context.Context, name string, o Options) (*tarFiles, error) {
	var f *os.File
	var err error
	if name == "-" {
		f, err = spoolStdin(ctx, o)
	} else {
		f, err = openPlain(ctx, name, o)
	}
	if err != nil {
		return nil, err
	}
	t, err := indexTar(ctx, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

func spoolStdin(ctx context.Context, o Options) (*os.File, error) {
	if o.Stdin == nil {
		return nil, wire.Errorf(wire.Invalid, "reading archive: there is no standard input")
	}
	if d, ok := o.Stdin.(interface{ SetReadDeadline(time.Time) error }); ok {
		// A pipe may stay silent for ever.
		stop := context.AfterFunc(ctx, func() { d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	return spoolPlain(ctx, o.Stdin, o)
}

func openPlain(ctx context.Context, name string, o Options) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError("reading archive", name, err)
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = wire.Errorf(wire.Invalid, "reading archive %q: it is a directory", name).WithHint("%s", suggest(name))
	}
	if err != nil {
		f.Close()
		return nil, fileError("reading archive", name, err)
	}
	var magic [4]byte
	n, _ := f.ReadAt(magic[:], 0)
	if st.Mode().IsRegular() && !isCompressed(magic[:n]) {
		return f, nil
	}
	defer f.Close()
	return spoolPlain(ctx, f, o)
}

// spoolPlain copies r, decompressed, to a temporary file.
func spoolPlain(ctx context.Context, r io.Reader, o Options) (*os.File, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "reading archive: %w", err)
	}
	defer plain.Close()
	f, err := spool(ctx, o.Scratch, plain, o.MaxBytes, nil)
	var coded *wire.Error
	switch {
	case errors.As(err, &coded), err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, wire.Errorf(wire.Invalid, "reading archive: %w", err)
	}
	return f, nil
}
