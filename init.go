package bandsox

import (
	"cmp"
	"context"
	"os"

	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
)

// InitOptions says how to set a state directory up. The zero value is right
// for most: find a guest kernel wherever there is one.
type InitOptions struct {
	Storage string // default as in Config

	Kernel       string // a path or URL (http, https, file) of a vmlinux, a bzImage or a Debian kernel package; default: search
	KernelSHA256 string // of what Kernel names, hex; "" is not checked
	KernelOutput string // copy the vmlinux here too
	Force        bool   // replace what is there

	// Firecracker is a path or URL (http, https, file) of a release's archive, or of
	// what is laid out as its releases are; default: the project's own.
	Firecracker       string
	FirecrackerSHA256 string // of the archive, hex; the release's own must be that too

	// DebianMirror is where Debian's kernel comes from if apt can't get it: see
	// ImageSources.
	DebianMirror string

	Progress func(what string, done, total int64)
}

// Kernel is an installed guest kernel.
type Kernel struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Source  string `json:"source"`
	Path    string `json:"path"`
}

// Init installs a guest kernel, unless one is installed: the one named, else
// the Firecracker project's, else Debian's. It may be run again at any time.
func Init(ctx context.Context, o InitOptions) (Kernel, error) {
	var err error
	if o.Storage, err = stateDir(o.Storage); err != nil {
		return Kernel{}, fail("init", "", err)
	}
	// Not as a manager: one may have the directory, a server that is waiting for a
	// kernel. Installing has a lock of its own.
	kernels := store.Layout(o.Storage).Kernels()
	if err := os.MkdirAll(kernels, 0o755); err != nil {
		return Kernel{}, fail("init", "", err)
	}
	k, err := kernel.Install(ctx, kernels, kernel.InstallOptions{
		FirecrackerURL: os.Getenv("BANDSOX_FIRECRACKER_URL"),
		Source:         o.Kernel, SHA256: o.KernelSHA256, Force: o.Force, Progress: o.Progress,
		Mirror: cmp.Or(debianMirror(o.DebianMirror), image.DebianMirror()),
		// What every driver of this build boots from.
		Require: []string{"virtio_console", "pvh", "vmw_vsock_virtio_transport"},
	})
	if err != nil {
		return Kernel{}, fail("init", "", err)
	}
	if o.KernelOutput != "" {
		if _, err := os.Stat(o.KernelOutput); os.IsNotExist(err) || o.Force {
			if err := k.Export(o.KernelOutput); err != nil {
				return Kernel{}, fail("init", "", err)
			}
		}
	}
	return Kernel{Version: k.Version, Digest: k.Digest, Source: k.Source, Path: k.Vmlinux}, nil
}

// debianMirror is the one named, here or in the environment.
func debianMirror(named string) string {
	return cmp.Or(named, os.Getenv("BANDSOX_DEBIAN_MIRROR"))
}

// Fetch copies what a path or URL (http, https, file) names into the file to:
// whole or not at all, going on where an interrupted download stopped.
func Fetch(ctx context.Context, from, to, sha256 string, progress func(what string, done, total int64)) error {
	return fail("fetch", from, kernel.Fetch(ctx, from, to, kernel.FetchOptions{SHA256: sha256, Progress: progress}))
}

// FetchTarball unpacks what a path or URL of a .tar or .tar.gz names into dir.
func FetchTarball(ctx context.Context, from, dir string, progress func(what string, done, total int64)) error {
	return fail("fetch", from, kernel.FetchTarball(ctx, from, dir, kernel.FetchOptions{Progress: progress}))
}
