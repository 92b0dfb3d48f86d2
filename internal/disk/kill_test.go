package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMain is also the process that is killed while it builds.
func TestMain(m *testing.M) {
	if path := os.Getenv("BANDSOX_TEST_BUILD"); path != "" {
		if err := BuildBase(context.Background(), path, os.Stdin, BaseOptions{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A killed build leaves only what a sweep can recognise, and no hindrance.
func TestKilledBuild(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tarball := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 8 << 20}, tar.Header{Typeflag: tar.TypeReg, Name: "b", Size: 1000})
	dir := t.TempDir()
	path := filepath.Join(dir, "base")
	for _, part := range []int{0, 1000, 2 << 20, len(tarball) - 600} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "BANDSOX_TEST_BUILD="+path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(tarball[:part]); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			left, _ := filepath.Glob(filepath.Join(dir, TempPattern))
			if len(left) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it does not begin to build")
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		left, _ := filepath.Glob(filepath.Join(dir, TempPattern))
		all, _ := os.ReadDir(dir)
		if len(left) != 1 || len(all) != 1 {
			t.Fatalf("left behind: %v", all)
		}
		os.Remove(left[0])
	}
	if err := BuildBase(t.Context(), path, bytes.NewReader(tarball), BaseOptions{}); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "base")
}

// Concurrent builds of one path all succeed; the file is whole at any time.
func TestConcurrentBuilds(t *testing.T) {
	tarball := tarOf(t, edges()...)
	dir := t.TempDir()
	path := filepath.Join(dir, "base")
	errs := make(chan error)
	const n = 4
	for range n {
		go func() {
			r := io.MultiReader(bytes.NewReader(tarball[:len(tarball)/2]), bytes.NewReader(tarball[len(tarball)/2:]))
			errs <- BuildBase(t.Context(), path, r, BaseOptions{})
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	only(t, dir, "base")
	if sumOf(t, path) != sumOf(t, base(t, tarball)) {
		t.Error("not the base that one build makes")
	}
}
