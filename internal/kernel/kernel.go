package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Kernel is an installed guest kernel. It never changes: another kernel has
// another digest and another directory.
type Kernel struct {
	Dir     string `json:"-"` // <kernels>/<first 12 digits of the digest>
	Vmlinux string `json:"-"` // the file a driver boots
	Modules string `json:"-"` // directory of the decompressed .ko files, and of order

	Version string            `json:"version"` // "6.1.0-56-cloud-amd64"; "unknown" when it doesn't say
	Digest  string            `json:"digest"`  // "sha256:…" of vmlinux and modules
	Source  string            `json:"source"`  // where it came from: a URL, a path or a package
	Arch    string            `json:"arch"`    // as GOARCH
	PVH     bool              `json:"pvh"`     // QEMU can boot the vmlinux itself
	Size    int64             `json:"size"`    // of vmlinux
	Drivers map[string]string `json:"drivers"` // driver → Builtin, Loaded, Missing or Unknown
	Load    []Module          `json:"modules"` // every module taken, in an order in which they load
}

// Names in the kernels directory.
const (
	currentLink  = "current"
	lockFile     = "lock"
	downloadDir  = "download"
	vmlinuxFile  = "vmlinux"
	modulesDir   = "modules"
	orderFile    = "order"
	metaFile     = "kernel.json"
	stagePattern = ".stage-"
)

const initHint = "bandsox init"

// Open gives the kernel installed under dir. It looks at sizes, not at
// contents: see [Kernel.Verify].
func Open(dir string) (*Kernel, error) {
	target, err := os.Readlink(filepath.Join(dir, currentLink))
	if errors.Is(err, os.ErrNotExist) {
		return nil, wire.Errorf(wire.NotFound, "opening the kernel: none is installed in %q", dir).WithHint(initHint)
	}
	if err != nil {
		return nil, fail(err, "opening the kernel")
	}
	if filepath.Base(target) != target {
		return nil, damaged(dir, errors.New("the link current leads out of the directory"))
	}
	k, err := open(filepath.Join(dir, target))
	if err != nil {
		return nil, damaged(filepath.Join(dir, target), err)
	}
	return k, nil
}

func damaged(path string, err error) error {
	return wire.Errorf(wire.Unavailable, "opening the kernel %q: damaged: %w", path, err).WithHint(initHint + " --force")
}

// open reads one kernel's directory and compares sizes.
func open(dir string) (*Kernel, error) {
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return nil, err
	}
	k := &Kernel{}
	if err := json.Unmarshal(b, k); err != nil {
		return nil, fmt.Errorf("reading %s: %w", metaFile, err)
	}
	k.at(dir)
	if hex, ok := strings.CutPrefix(k.Digest, "sha256:"); !ok || len(hex) != 64 {
		return nil, fmt.Errorf("reading %s: no digest in it", metaFile)
	}
	if err := sized(k.Vmlinux, k.Size); err != nil {
		return nil, err
	}
	for _, m := range k.Load {
		if filepath.Base(m.File) != m.File {
			return nil, fmt.Errorf("reading %s: a module outside", metaFile)
		}
		if err := sized(filepath.Join(k.Modules, m.File), m.Size); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *Kernel) at(dir string) {
	k.Dir = dir
	k.Vmlinux = filepath.Join(dir, vmlinuxFile)
	k.Modules = filepath.Join(dir, modulesDir)
}

func sized(path string, want int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() != want || want == 0 {
		return fmt.Errorf("%s has %d bytes, not %d", filepath.Base(path), st.Size(), want)
	}
	return nil
}

// Verify reads the whole kernel and compares it with its digest.
func (k *Kernel) Verify() error {
	got, err := k.sum()
	if err == nil && got != k.Digest {
		err = errors.New("its contents have changed")
	}
	if err != nil {
		return damaged(k.Dir, err)
	}
	return nil
}

// sum is the digest of what a guest gets: the kernel and the modules, by name
// and content.
func (k *Kernel) sum() (string, error) {
	all := sha256.New()
	files := []string{k.Vmlinux}
	for _, m := range k.Load {
		files = append(files, filepath.Join(k.Modules, m.File))
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		one := sha256.New()
		n, err := io.Copy(one, f)
		f.Close()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%x %d %s\n", one.Sum(nil), n, filepath.Base(path))
	}
	return "sha256:" + hex.EncodeToString(all.Sum(nil)), nil
}

// Export copies the vmlinux to path.
func (k *Kernel) Export(path string) error {
	src, err := os.Open(k.Vmlinux)
	if err != nil {
		return fail(err, "exporting the kernel")
	}
	defer src.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err, "exporting the kernel")
	}
	err = writeAtomic(path, 0o644, func(f *os.File) error { _, err := io.Copy(f, src); return err })
	return fail(err, "exporting the kernel to %q", path)
}
