package kernel

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Bounds of a package, many times what Debian's largest kernel needs.
const (
	maxDebEntries = 200_000
	maxDebBytes   = 4 << 30
)

// tree is what was taken out of a kernel's packages.
type tree struct {
	dir     string // holds the files below
	image   string // path of vmlinuz
	config  string // path of the build's .config, "" = none
	version string // as in lib/modules/<version>
}

// modules is where the module files and modules.builtin lie.
func (t *tree) modules() string { return filepath.Join(t.dir, "modules") }

var (
	debImage   = regexp.MustCompile(`^boot/vmlinu[xz]-([0-9A-Za-z.+_~-]+)$`)
	debConfig  = regexp.MustCompile(`^boot/config-[0-9A-Za-z.+_~-]+$`)
	debModules = regexp.MustCompile(`^(?:usr/)?lib/modules/[0-9A-Za-z.+_~-]+/(.+)$`)
)

// unpackDebs takes the kernel, its configuration and all module files out of
// packages into dir. Only regular files are taken, each under a name of ours,
// so a package can't write anywhere else.
func unpackDebs(ctx context.Context, dir string, debs ...string) (*tree, error) {
	t := &tree{dir: dir}
	if err := os.MkdirAll(t.modules(), 0o755); err != nil {
		return nil, err
	}
	for _, deb := range debs {
		if err := t.unpack(ctx, deb); err != nil {
			return nil, fail(err, "unpacking %q", filepath.Base(deb))
		}
	}
	if t.image == "" {
		return nil, wire.Errorf(wire.Invalid, "unpacking %q: no kernel in it", filepath.Base(debs[0]))
	}
	return t, nil
}

func (t *tree) unpack(ctx context.Context, deb string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := arMember(bufio.NewReaderSize(f, 256<<10), "data.tar")
	if err != nil {
		return badDeb(err)
	}
	z, err := decompress(data)
	if err != nil {
		return badDeb(err)
	}
	defer z.Close()
	tr := tar.NewReader(bounded(z, maxDebBytes))
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badDeb(err)
		}
		if n >= maxDebEntries {
			return badDeb(fmt.Errorf("more than %d entries", maxDebEntries))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if dst := t.place(h); dst != "" {
			if err := writeNew(dst, tr); err != nil {
				return err
			}
		}
	}
}

// place is where an entry goes; "" = nowhere.
func (t *tree) place(h *tar.Header) string {
	name := strings.TrimPrefix(path.Clean(h.Name), "/")
	if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
		return ""
	}
	if m := debImage.FindStringSubmatch(name); m != nil && t.image == "" {
		t.image, t.version = filepath.Join(t.dir, "vmlinuz"), m[1]
		return t.image
	}
	if debConfig.MatchString(name) && t.config == "" {
		t.config = filepath.Join(t.dir, "config")
		return t.config
	}
	if m := debModules.FindStringSubmatch(name); m != nil {
		base := path.Base(m[1])
		if moduleName(base) != "" || base == "modules.builtin" || base == "modules.dep" {
			return filepath.Join(t.modules(), base)
		}
	}
	return ""
}

// writeNew writes a file that will be thrown away soon: no fsync. A second
// file of that name is left out: the first wins.
func writeNew(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := transfer(f, r, badDeb); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func badDeb(err error) error {
	return wire.Errorf(wire.Invalid, "not a whole Debian package: %w", err)
}

// arMember finds the first member of an ar archive whose name starts with
// prefix.
func arMember(r io.Reader, prefix string) (io.Reader, error) {
	var magic [8]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil || string(magic[:]) != "!<arch>\n" {
		return nil, errors.New("no ar archive")
	}
	for {
		var h [60]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return nil, fmt.Errorf("no %s in it: %w", prefix, err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
		if err != nil || size < 0 || string(h[58:]) != "`\n" {
			return nil, errors.New("damaged ar header")
		}
		if strings.HasPrefix(string(h[:16]), prefix) {
			return io.LimitReader(r, size), nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
			return nil, fmt.Errorf("no %s in it: %w", prefix, err)
		}
	}
}
