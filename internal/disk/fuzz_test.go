package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// FuzzBuildBase feeds it any bytes: it makes a file system that is laid out as
// correct expects, or says that the input is invalid.
func FuzzBuildBase(f *testing.F) {
	f.Add([]byte{})
	f.Add(tarOf(f, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 700}))
	f.Add(tarOf(f, attributes(edges()[0].ModTime)...))
	f.Add(tarOf(f, edges()[:12]...))
	f.Add(tarOf(f, tar.Header{Typeflag: tar.TypeDir, Name: "d/"}, tar.Header{Typeflag: tar.TypeReg, Name: "d"},
		tar.Header{Typeflag: tar.TypeLink, Name: "d/l", Linkname: "d"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		dir := t.TempDir()
		// A sparse file of any size fits into a few bytes.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := BuildBase(ctx, filepath.Join(dir, "base"), bytes.NewReader(b), BaseOptions{})
		if err != nil && wire.CodeOf(err) != wire.Invalid && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err != nil {
			only(t, dir)
		}
	})
}
