package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The image that everything is measured with: about what a Debian with Python
// is, in two layers, the same bytes in every run.
const (
	treeFiles = 8000
	treeBytes = 160 << 20
)

// inputs are what the benchmark makes for itself.
type inputs struct {
	dir     string
	ref     string // in the registry of this process
	rootfs  string // the same root file system as one tar, for docker import
	program string // the static program in it, as a file here
	serve   *http.Server
}

func makeInputs(dir string) (*inputs, error) {
	in := &inputs{dir: dir, program: filepath.Join(dir, "guest"), rootfs: filepath.Join(dir, "rootfs.tar")}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", in.program, "./bench/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the guest program: %v\n%s", err, out)
	}
	if err := in.writeTree(in.rootfs); err != nil {
		return nil, fmt.Errorf("writing the root file system: %w", err)
	}
	img, err := in.image()
	if err != nil {
		return nil, fmt.Errorf("making the image: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	in.serve = &http.Server{Handler: registry.New(registry.Logger(quiet))}
	go in.serve.Serve(l)
	in.ref = l.Addr().String() + "/bench/image:1"
	ref, err := name.ParseReference(in.ref)
	if err != nil {
		return nil, err
	}
	return in, remote.Write(ref, img)
}

func (in *inputs) close() { in.serve.Close() }

// writeTree writes files whose sizes are spread as a distribution's are: most
// are small, a few hold most of the bytes. Half of the bytes compress well.
func (in *inputs) writeTree(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	rnd := rand.New(rand.NewPCG(1, 2))
	at := time.Unix(1_700_000_000, 0)
	dir := func(name string) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: at})
	}
	put := func(name string, mode int64, b []byte) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(b)), ModTime: at}); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	program, err := os.ReadFile(in.program)
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "etc", "tmp", "usr", "usr/lib"} {
		if err := dir(d); err != nil {
			return err
		}
	}
	if err := put("bin/guest", 0o755, program); err != nil {
		return err
	}
	if err := put("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/guest\n")); err != nil {
		return err
	}
	buf := make([]byte, 64<<20)
	words := []byte("the quick brown fox jumps over the lazy dog, and then does it again; ")
	for i := 0; i < len(buf); i += 4096 {
		if (i/4096)%2 == 0 {
			for j := i; j < i+4096; j += 8 {
				v := rnd.Uint64()
				for k := range 8 {
					buf[j+k] = byte(v >> (8 * k))
				}
			}
		} else {
			for j := i; j < i+4096; {
				j += copy(buf[j:i+4096], words)
			}
		}
	}
	for i, size := range sizes(rnd) {
		d := fmt.Sprintf("usr/lib/d%03d", i/40)
		if i%40 == 0 {
			if err := dir(d); err != nil {
				return err
			}
		}
		off := rnd.IntN(len(buf) - size)
		name := fmt.Sprintf("%s/file-%05d", d, i)
		if err := put(name, 0o644, buf[off:off+size]); err != nil {
			return err
		}
		if i%8 == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name + ".link", Linkname: filepath.Base(name), Mode: 0o777, ModTime: at}); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

// sizes are log-normal and add up to about treeBytes.
func sizes(rnd *rand.Rand) []int {
	list := make([]int, treeFiles)
	sum := 0.0
	raw := make([]float64, treeFiles)
	for i := range raw {
		raw[i] = min(expNorm(rnd), 400)
		sum += raw[i]
	}
	for i := range list {
		list[i] = int(raw[i] / sum * treeBytes)
	}
	return list
}

// image is the tree as one layer, and over it a second that changes, hides
// and adds a little, as a RUN line does.
func (in *inputs) image() (v1.Image, error) {
	lower, err := tarball.LayerFromFile(in.rootfs, tarball.WithCompressionLevel(1))
	if err != nil {
		return nil, err
	}
	var top bytes.Buffer
	w := tar.NewWriter(&top)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "usr/lib/d001/.wh.file-00040", Mode: 0o644},
		{Typeflag: tar.TypeLink, Name: "usr/lib/hard", Linkname: "usr/lib/d002/file-00080"},
		{Typeflag: tar.TypeReg, Name: "etc/motd", Mode: 0o644},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	upper, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(top.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, lower, upper)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", goarch
	cfg.Config.Cmd = []string{"/bin/guest", "true"}
	return mutate.ConfigFile(img, cfg)
}
