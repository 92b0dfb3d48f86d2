package disk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is written where, the file reads as a plain file would.
func TestSparseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	rapid.Check(t, func(rt *rapid.T) {
		f, err := os.Create(path)
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		s := &sparseFile{f: f, ctx: t.Context()}
		var model []byte
		pos := 0
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0:
				pos = rapid.IntRange(0, 5).Draw(rt, "block") * 32 << 10
				if _, err := s.Seek(int64(pos), io.SeekStart); err != nil {
					rt.Fatal(err)
				}
			default:
				n := rapid.SampledFrom([]int{1, 511, 4096, 65536, 100000, 200 << 10}).Draw(rt, "length")
				p := make([]byte, n)
				if rapid.Bool().Draw(rt, "data") {
					p[rapid.IntRange(0, n-1).Draw(rt, "at")] = 1
				}
				if m, err := s.Write(p); m != n || err != nil {
					rt.Fatal(m, err)
				}
				if end := pos + n; end > len(model) {
					model = append(model, make([]byte, end-len(model))...)
				}
				copy(model[pos:], p)
				pos += n
			}
		}
		s.Seek(0, io.SeekStart)
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, model) {
			rt.Fatalf("reads %d bytes that differ from the %d written (%v)", len(got), len(model), err)
		}
		if err := f.Truncate(s.size); err != nil {
			rt.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, model) {
			rt.Fatalf("the file's %d bytes differ from the %d written (%v)", len(got), len(model), err)
		}
	})
}
