package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/wire"
)

// packages are what the machine has beside bandsox/base: Debian's kernel with
// all its modules, and the tools that a host of BandSox, or a test, calls.
var packages = []string{
	"linux-image-cloud-amd64", "kmod", "udev",
	"e2fsprogs", "xfsprogs", "iproute2", "iputils-ping", "nftables", "iptables", "procps", "psmisc",
	"strace", "curl", "socat",
}

// baseImage is what the machine is made of, and what its sandboxes are made from.
const baseImage = "bandsox/base"

// cacheVersion is part of the cache's key; raise it when what is made changes.
const cacheVersion = "1"

// cache is the directory of what is made once: <user's cache>/bandsox/lab.
type cache struct{ dir string }

func openCache() (cache, error) {
	dir := os.Getenv("BANDSOX_LAB_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return cache{}, wire.Errorf(wire.Unavailable, "finding a cache directory: %w", err).WithHint("set BANDSOX_LAB_CACHE")
		}
		dir = filepath.Join(user, "bandsox", "lab")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return cache{}, err
	}
	dir, err := filepath.Abs(dir)
	return cache{dir}, err
}

// kit is what a machine is booted from, none of it ever written to.
type kit struct {
	root   string // the root file system's base
	disk   string // an empty disk to lay over it
	state  string // a disk with BandSox's state directory
	kernel *kernel.Kernel
}

// kit gives it, made now if it isn't there. Those who want it at once take turns.
func (c cache) kit(ctx context.Context) (kit, error) {
	lock, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return kit{}, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return kit{}, err
	}
	c.sweep()
	dir := c.machine()
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := c.make(ctx, dir); err != nil {
			return kit{}, fmt.Errorf("making the lab's machine: %w", err)
		}
	}
	k := kit{root: filepath.Join(dir, "root.ext4"), disk: filepath.Join(dir, "disk.ext4")}
	if k.kernel, err = kernel.Open(filepath.Join(dir, "kernels")); err != nil {
		return kit{}, err
	}
	k.state, err = c.state(ctx, filepath.Join(dir, "kernels"))
	return k, err
}

// machine is the directory of the root file system and the kernel.
func (c cache) machine() string {
	sum := sha256.Sum256([]byte(cacheVersion + "\n" + strings.Join(packages, "\n")))
	return filepath.Join(c.dir, "machine-"+hex.EncodeToString(sum[:6]))
}

// make builds the machine in a directory that gets its name when it is whole.
func (c cache) make(ctx context.Context, dir string) error {
	fmt.Fprintln(os.Stderr, "lab: making the machine from Debian's packages: a minute or two, this once")
	s, err := c.scratch()
	if err != nil {
		return err
	}
	defer s.remove()
	// No initramfs: the agent's is used, and making one takes half a minute.
	os.Setenv("INITRD", "No")
	img, err := image.Open(ctx, baseImage, image.Options{
		Packages: packages, Scratch: s.dir, DebianMirror: os.Getenv("BANDSOX_DEBIAN_MIRROR"),
	})
	if err != nil {
		return err
	}
	defer img.Close()
	out := filepath.Join(s.dir, "out")
	boot := filepath.Join(s.dir, "boot")
	if err := errors.Join(os.Mkdir(out, 0o755), os.Mkdir(boot, 0o755)); err != nil {
		return err
	}
	files, err := img.Tar(ctx)
	if err != nil {
		return err
	}
	err = disk.BuildBase(ctx, filepath.Join(out, "root.ext4"), files, disk.BaseOptions{})
	if err = errors.Join(err, files.Close()); err != nil {
		return err
	}
	if err := disk.Create(ctx, filepath.Join(out, "disk.ext4"), 16<<10); err != nil {
		return err
	}
	if files, err = img.Tar(ctx); err != nil {
		return err
	}
	err = takeKernel(files, boot)
	if err = errors.Join(err, files.Close()); err != nil {
		return err
	}
	_, err = kernel.Install(ctx, filepath.Join(out, "kernels"), kernel.InstallOptions{
		Source: filepath.Join(boot, "vmlinuz"), Modules: filepath.Join(boot, "modules"),
		Require: []string{"virtio_console", "pvh"},
	})
	if err != nil {
		return err
	}
	return os.Rename(out, dir)
}

// takeKernel copies the kernel and its modules out of a root file system.
func takeKernel(r io.Reader, dir string) error {
	if err := os.Mkdir(filepath.Join(dir, "modules"), 0o755); err != nil {
		return err
	}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Base(h.Name)
		switch {
		case h.Typeflag != tar.TypeReg:
			continue
		case strings.HasPrefix(name, "vmlinuz-"):
			name = "vmlinuz"
		case strings.Contains(h.Name, "lib/modules/") && (strings.HasSuffix(name, ".ko") || strings.HasPrefix(name, "modules.")):
			name = filepath.Join("modules", name)
		default:
			continue
		}
		var b bytes.Buffer
		if _, err := io.Copy(&b, in); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
}

// scratch is a directory that a killed lab's successor removes: it is locked as
// long as who made it lives.
type scratch struct {
	dir  string
	lock *os.File
}

const scratchPrefix = "tmp-"

func (c cache) scratch() (*scratch, error) {
	dir, err := os.MkdirTemp(c.dir, scratchPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	return &scratch{dir, lock}, err
}

// short is a path of a file in it that fits into a socket's address.
func (s *scratch) short(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", s.lock.Fd(), name)
}

func (s *scratch) remove() {
	os.RemoveAll(s.dir)
	s.lock.Close()
}

func (c cache) sweep() {
	left, _ := filepath.Glob(filepath.Join(c.dir, scratchPrefix+"*"))
	for _, dir := range left {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		f.Close()
	}
}
