package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Image is a directory with the file hello in it, as an image.
func Image(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("mke2fs"); err != nil {
		if _, err := os.Stat("/sbin/mke2fs"); err != nil {
			t.Skip("needs mke2fs: apt-get install e2fsprogs")
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("world"), 0o644); err != nil {
		t.Fatal(err)
	}
	return "dir:" + dir
}
