package kernel

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"github.com/bandsox/bandsox/internal/wire"
)

// sourceName is what kernel.json remembers of a given source: enough to know
// it again, without what may be a secret in a URL.
func sourceName(o InstallOptions) string {
	u, local, err := parseSource(o.Source)
	if err != nil || u != nil {
		return shown(o.Source)
	}
	if abs, err := filepath.Abs(local); err == nil {
		return abs
	}
	return local
}

// fromGiven gets the file that the user named.
func fromGiven(ctx context.Context, o InstallOptions, cache, tmp string) (found, error) {
	u, local, err := parseSource(o.Source)
	if err != nil {
		return found{}, err
	}
	f := found{source: sourceName(o), modules: o.Modules, local: u == nil}
	if o.Modules != "" && !isDir(o.Modules) {
		return found{}, wire.Errorf(wire.NotFound, "modules %q: no such directory", o.Modules)
	}
	if u == nil {
		f.image, err = givenFile(local, o.SHA256)
	} else {
		f.image = filepath.Join(cache, cacheName(shown(o.Source)))
		err = Fetch(ctx, o.Source, f.image, o.fetchOptions(path.Base(u.Path), o.SHA256, maxVmlinux))
	}
	if err != nil {
		return found{}, err
	}
	return opened(ctx, f, tmp)
}

// givenFile checks a file of this machine, which is used where it is.
func givenFile(path, sum string) (string, error) {
	sum, err := parseSHA256(sum)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", wire.Errorf(wire.Invalid, "not a regular file")
	}
	return path, checkFile(f, sum)
}

// opened takes the kernel out of its package, if it is in one.
func opened(ctx context.Context, f found, tmp string) (found, error) {
	isDeb, err := startsWith(f.image, "!<arch>\n")
	if err != nil || !isDeb {
		return f, err
	}
	return fromPackages(ctx, f, tmp, f.image)
}

func fromPackages(ctx context.Context, f found, tmp string, debs ...string) (found, error) {
	t, err := unpackDebs(ctx, filepath.Join(tmp, "deb"), debs...)
	if err != nil {
		return found{}, err
	}
	f.image, f.config, f.local = t.image, t.config, false
	if f.modules == "" {
		f.modules = t.modules()
	}
	return f, nil
}

func startsWith(path, magic string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, len(magic))
	n, _ := f.ReadAt(b, 0)
	return string(b[:n]) == magic, nil
}
