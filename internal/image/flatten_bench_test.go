package image

import (
	"io"
	"os"
	"testing"
)

// BenchmarkFlatten needs a tar: BANDSOX_BENCH_TAR=root.tar. It measures with
// and without room to keep the layer unpacked.
func BenchmarkFlatten(b *testing.B) {
	name := os.Getenv("BANDSOX_BENCH_TAR")
	if name == "" {
		b.Skip("needs BANDSOX_BENCH_TAR: the path of a tar")
	}
	plain, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	packed := gzipLayer(pack(b, plain))
	for _, c := range []struct{ name, scratch string }{{"kept", b.TempDir()}, {"twice", ""}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if err := Flatten(b.Context(), []Layer{packed}, io.Discard, Limits{Scratch: c.scratch}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
