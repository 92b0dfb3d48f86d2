package main

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// health is what a registry does when asked for a layer.
type health int32

const (
	well  health = iota
	dying        // it sends a part and cuts the connection
	stuck        // it sends a part and then no more
)

// sickRegistry is a real registry that can fall ill.
type sickRegistry struct {
	health atomic.Int32
	asked  atomic.Int32 // how often a layer was sent in part
	gone   chan struct{}
	inner  http.Handler
}

func (s *sickRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := health(s.health.Load())
	if h == well || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
		s.inner.ServeHTTP(w, r)
		return
	}
	s.inner.ServeHTTP(&part{ResponseWriter: w, left: 64 << 10, end: func() {
		s.asked.Add(1)
		if h == stuck {
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-s.gone:
			}
		}
		panic(http.ErrAbortHandler) // cuts the connection
	}}, r)
}

// part lets so many bytes through and then ends.
type part struct {
	http.ResponseWriter
	left int
	end  func()
}

func (p *part) Write(b []byte) (int, error) {
	n := min(len(b), p.left)
	_, err := p.ResponseWriter.Write(b[:n])
	if p.left -= n; err != nil || p.left == 0 {
		p.end()
	}
	return n, err
}

// serveImage puts the directory into a registry as an image of one layer.
func serveImage(t *testing.T, dir string) (*sickRegistry, string) {
	t.Helper()
	s := &sickRegistry{gone: make(chan struct{}), inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(s.gone) })
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, imageOf(t, dir)); err != nil {
		t.Fatal(err)
	}
	return s, ref.String()
}

func imageOf(t *testing.T, dir string) v1.Image {
	t.Helper()
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == dir {
			return err
		}
		link, _ := os.Readlink(path)
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		if h.Name, err = filepath.Rel(dir, path); err != nil {
			return err
		}
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.Config(image, v1.Config{Cmd: []string{"echo", "from", "the", "image"}})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestRegistryDiesHalfWay: a layer that ends too soon is an error that says so;
// nothing of it stays, and when the registry is well again all is well.
func TestRegistryDiesHalfWay(t *testing.T) {
	l := newLab(t)
	reg, image := serveImage(t, strings.TrimPrefix(l.image, "dir:"))
	reg.health.Store(int32(dying))
	r := l.start(t, "run", image)
	r.ends(t, inTime, exitError)
	if reg.asked.Load() == 0 {
		t.Error("the registry was not even asked for the layer")
	}
	if got := r.err.String(); !strings.Contains(got, "error: ") || !strings.Contains(got, image) || r.out.String() != "" {
		t.Errorf("what it says: %q, output %q", got, r.out.String())
	}
	t.Logf("it says: %s", r.err.String())
	l.nothingLeft(t)
	l.noBases(t)

	reg.health.Store(int32(well))
	r = l.start(t, "run", image)
	r.ends(t, inTime, 0)
	if got := r.out.String(); got != "from the image\n" {
		t.Errorf("output %q", got)
	}
	l.nothingLeft(t)
}

// TestInterruptedPull: a registry that sends nothing more can be left.
func TestInterruptedPull(t *testing.T) {
	l := newLab(t)
	reg, image := serveImage(t, strings.TrimPrefix(l.image, "dir:"))
	reg.health.Store(int32(stuck))
	for _, args := range [][]string{{"run", image}, {"image", "pull", image}} {
		t.Run(args[0], func(t *testing.T) {
			before := reg.asked.Load()
			r := l.start(t, args...)
			wait(t, "half a layer", func() bool { return reg.asked.Load() > before })
			r.signal(t, syscall.SIGINT)
			r.ends(t, atOnce, 130)
			if got := r.err.String(); strings.Contains(got, "error:") {
				t.Errorf("it complains: %q", got)
			}
			l.nothingLeft(t)
			l.noBases(t)
		})
	}
}

// noBases fails the test if there is a base, or a part of one.
func (l *lab) noBases(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*.ext4*", "*.json*"} {
		if left, _ := filepath.Glob(filepath.Join(l.state, "bases", pattern)); len(left) > 0 {
			t.Errorf("bases left: %v", left)
		}
	}
}

// TestTwoRunsOfANewImage: two at once, and the base is made once.
func TestTwoRunsOfANewImage(t *testing.T) {
	l := newLab(t)
	_, image := serveImage(t, strings.TrimPrefix(l.image, "dir:"))
	a, b := l.start(t, "run", image, "echo", "a"), l.start(t, "run", image, "echo", "b")
	a.ends(t, inTime, 0)
	b.ends(t, inTime, 0)
	if a.out.String() != "a\n" || b.out.String() != "b\n" {
		t.Errorf("output %q and %q", a.out.String(), b.out.String())
	}
	if bases, _ := filepath.Glob(filepath.Join(l.state, "bases", "*.ext4")); len(bases) != 1 {
		t.Errorf("bases: %v", bases)
	}
	l.nothingLeft(t)
}
