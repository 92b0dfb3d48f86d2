package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// InstallOptions say which kernel [Install] should find. The zero value lets
// it search.
type InstallOptions struct {
	Source  string // http, https or file URL, or a path: a vmlinux, a bzImage, an arm64 Image or a Debian package; "" = search
	SHA256  string // of Source as it is, hex; "" = not checked
	Modules string // directory of Source's modules; "" = those in the package, else /lib/modules/<its version>
	Force   bool   // install even when one is there
	Arch    string // as GOARCH; "" = this machine's

	// Require names drivers (keys of Kernel.Drivers) and "pvh" that the machine
	// can't do without: a kernel known to lack one is passed over.
	Require []string

	Search         []string // sources in their order; nil = firecracker, apt, debian
	FirecrackerURL string   // bucket of the Firecracker project's CI; "" = its own
	Mirror         string   // URL of a Debian archive, signed, so http is as good, and after a space of its security archive ("" = beside it)
	Suite          string   // Debian release; "" = this host's when it is Debian, else stable
	Keyring        string   // keys that may sign it; "" = the host's debian-archive-keyring
	Client         *http.Client
	Progress       Progress
}

// firecrackerURL is where the Firecracker project publishes its guest kernels,
// for everyone: there is no other name for it. It is the one host that is named
// here; BANDSOX_FIRECRACKER_URL names another.
const firecrackerURL = "https://s3.amazonaws.com/spec.ccfc.min"

// source is a place where kernels are got from. Files go into tmp, which will
// be removed, or into cache, where an interrupted download goes on.
type source struct {
	name string
	get  func(ctx context.Context, o InstallOptions, cache, tmp string) (found, error)
}

var sources = []source{
	{"firecracker", fromFirecracker},
	{"apt", fromApt},
	{"debian", fromDebian},
}

func (o InstallOptions) withDefaults() InstallOptions {
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.FirecrackerURL == "" {
		o.FirecrackerURL = firecrackerURL
	}
	return o
}

// Install puts a guest kernel under dir and gives it. One that is there
// already, whole and suitable, is enough, unless o asks for another.
//
// Processes that install at once take turns; one killed half way leaves
// nothing that the next takes for whole.
func Install(ctx context.Context, dir string, o InstallOptions) (*Kernel, error) {
	o = o.withDefaults()
	if o.Arch != "amd64" && o.Arch != "arm64" {
		return nil, wire.Errorf(wire.Invalid, "installing a kernel: there is none for %s, only for amd64 and arm64", o.Arch)
	}
	if k := installed(dir, o); k != nil {
		return k, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, downloadDir), 0o755); err != nil {
		return nil, fail(err, "installing a kernel")
	}
	l, err := lock(ctx, filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fail(err, "installing a kernel: waiting for another that does")
	}
	defer l.Close()
	if k := installed(dir, o); k != nil {
		return k, nil // by the one we waited for
	}
	sweep(dir)
	defer sweep(dir)
	k, err := search(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	os.RemoveAll(filepath.Join(dir, downloadDir))
	return k, nil
}

// installed is the current kernel if it is what o asks for, else nil.
func installed(dir string, o InstallOptions) *Kernel {
	if o.Force {
		return nil
	}
	k, err := Open(dir)
	if err != nil || k.Arch != o.Arch || lacking(k.Drivers, o.Require, k.PVH) != nil {
		return nil
	}
	if o.Source != "" && k.Source != sourceName(o) {
		return nil
	}
	return k
}

// sweep removes what killed installations left. The lock is held.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, stagePattern+"*"))
	for _, path := range left {
		os.RemoveAll(path)
	}
}

// search asks the sources in order until one gives a kernel that suits.
func search(ctx context.Context, dir string, o InstallOptions) (*Kernel, error) {
	if o.Source != "" {
		k, err := try(ctx, dir, source{"given", fromGiven}, o)
		return k, fail(err, "installing the kernel %q", shown(o.Source))
	}
	chosen, err := order(o.Search)
	if err != nil {
		return nil, err
	}
	var tried []string
	for _, s := range chosen {
		k, err := try(ctx, dir, s, o)
		if err == nil {
			return k, nil
		}
		if fatal(ctx, err) {
			return nil, fail(err, "installing a kernel from %s", s.name)
		}
		line := fmt.Sprintf("%s: %v", s.name, err)
		if h := hintOf(err); h != "" {
			line += " (try: " + h + ")"
		}
		slog.Info("kernel source passed over", "source", s.name, "reason", err)
		tried = append(tried, line)
	}
	return nil, wire.Errorf(wire.Unavailable, "installing a kernel: no source has one:\n  %s", strings.Join(tried, "\n  ")).
		WithHint("bandsox init --kernel-url URL-OR-PATH  (a vmlinux, a bzImage or a linux-image .deb)")
}

// order picks sources by name.
func order(names []string) ([]source, error) {
	if names == nil {
		return sources, nil
	}
	var chosen []source
next:
	for _, n := range names {
		for _, s := range sources {
			if s.name == n {
				chosen = append(chosen, s)
				continue next
			}
		}
		return nil, wire.Errorf(wire.Invalid, "installing a kernel: no source is called %q", n)
	}
	return chosen, nil
}

// try installs what one source gives.
func try(ctx context.Context, dir string, s source, o InstallOptions) (*Kernel, error) {
	tmp, err := os.MkdirTemp(dir, stagePattern+s.name+"-")
	if err != nil {
		return nil, fail(err, "making a directory")
	}
	defer os.RemoveAll(tmp)
	f, err := s.get(ctx, o, filepath.Join(dir, downloadDir), tmp)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		o.Progress("extracting "+filepath.Base(f.source), 0, 0)
	}
	staged := tmp + "-kernel"
	if err := os.Mkdir(staged, 0o755); err != nil {
		return nil, fail(err, "making a directory")
	}
	k, err := stage(staged, f, o)
	if err != nil {
		return nil, fail(err, "reading %s", f.source)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err = publish(dir, k)
	if err != nil {
		return nil, fail(err, "installing %s", f.source)
	}
	return k, nil
}

// fetchOptions are those for a file on the way to a kernel.
func (o InstallOptions) fetchOptions(what, sha256 string, limit int64) FetchOptions {
	return FetchOptions{What: what, SHA256: sha256, MaxBytes: limit, Progress: o.Progress, Client: o.Client}
}
