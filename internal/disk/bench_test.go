package disk

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkBuildBase needs a tar: BANDSOX_BENCH_TAR=root.tar.
func BenchmarkBuildBase(b *testing.B) {
	name := os.Getenv("BANDSOX_BENCH_TAR")
	if name == "" {
		b.Skip("needs BANDSOX_BENCH_TAR: the path of a tar")
	}
	st, err := os.Stat(name)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	dir := b.TempDir()
	for b.Loop() {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		if err := BuildBase(b.Context(), filepath.Join(dir, "base"), f, BaseOptions{}); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	apparent, allocated, err := Usage(filepath.Join(dir, "base"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(apparent)/(1<<20), "MiB")
	b.ReportMetric(float64(allocated)/(1<<20), "MiB-allocated")
}
