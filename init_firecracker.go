package bandsox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// FirecrackerVersion is the one that Init gets, unless it is told another. What
// was saved on one version goes on on that one alone.
const FirecrackerVersion = "1.16.1"

const firecrackerReleases = "https://github.com/firecracker-microvm/firecracker/releases/download"

// maxFirecracker bounds a release: its archive has debugging symbols, too.
const maxFirecracker = 1 << 30

// Firecracker is an installed one, with its jailer.
type Firecracker struct {
	Version string `json:"version"`
	Source  string `json:"source"`
	Path    string `json:"path"`
	Jailer  string `json:"jailer"`
}

// InitFirecracker installs Firecracker and its jailer, unless they are there: the
// release named, else the one of FirecrackerVersion. Where KVM runs no guest it
// is of no use and unavailable, unless it is named. A machine keeps the program
// that it was started with: another release goes beside it.
func InitFirecracker(ctx context.Context, o InitOptions) (Firecracker, error) {
	dir, err := stateDir(o.Storage)
	if err != nil {
		return Firecracker{}, fail("init", "", err)
	}
	f, err := initFirecracker(ctx, store.Layout(dir).Bin(), o)
	return f, fail("init", "", err)
}

func initFirecracker(ctx context.Context, bin string, o InitOptions) (Firecracker, error) {
	source, err := firecrackerArchive(o.Firecracker)
	if err != nil {
		return Firecracker{}, err
	}
	if f, ok := installedFirecracker(bin); ok && !o.Force && f.Source == source {
		return f, nil
	}
	if k := vm.ProbeKVM(ctx); o.Firecracker == "" && !k.Works {
		e := wire.Errorf(CodeUnavailable, "getting Firecracker: it is of no use here: %s", k.Reason)
		e.Hint = k.Hint
		return Firecracker{}, e
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return Firecracker{}, err
	}
	sum, err := firecrackerSum(ctx, bin, source, o)
	if err != nil {
		return Firecracker{}, err
	}
	unpacked := filepath.Join(bin, ".unpacked-"+sum[:12])
	defer os.RemoveAll(unpacked)
	if err := kernel.FetchTarball(ctx, source, unpacked, kernel.FetchOptions{SHA256: sum, MaxBytes: maxFirecracker, Progress: o.Progress}); err != nil {
		return Firecracker{}, err
	}
	return installFirecracker(bin, unpacked, source, sum)
}

// firecrackerArch is this machine's, as the releases have it.
var firecrackerArch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]

// firecrackerArchive is the URL or path of a release's archive: the one named, or
// that of our version in what is laid out as the releases are.
func firecrackerArchive(named string) (string, error) {
	if firecrackerArch == "" {
		return "", wire.Errorf(CodeUnavailable, "getting Firecracker: there is none for %s", runtime.GOARCH)
	}
	if named == "" {
		named = firecrackerReleases
	}
	if strings.HasSuffix(named, ".tgz") || strings.HasSuffix(named, ".tar.gz") {
		return named, nil
	}
	return fmt.Sprintf("%s/v%s/firecracker-v%[2]s-%s.tgz", strings.TrimSuffix(named, "/"), FirecrackerVersion, firecrackerArch), nil
}

// firecrackerSum is the archive's checksum: the one given, which the one that the
// release publishes must be too, if it does. What comes over a network without
// either isn't taken.
func firecrackerSum(ctx context.Context, bin, source string, o InitOptions) (string, error) {
	given := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(o.FirecrackerSHA256), "sha256:"))
	if given != "" && !sumWords.MatchString(given) {
		return "", wire.Errorf(CodeInvalid, "reading the sha256 %q: not 64 hex digits", o.FirecrackerSHA256)
	}
	published, err := publishedSum(ctx, bin, source)
	remote := strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
	switch {
	case err == nil && given != "" && given != published:
		return "", wire.Errorf(CodeInvalid, "getting Firecracker: its release says that the sha256 is %s, not %s as asked for", published, given)
	case err == nil:
		return published, nil
	case ctx.Err() != nil || classify(err) != CodeNotFound:
		return "", err
	case given != "":
		return given, nil
	case remote:
		return "", wire.Errorf(CodeNotFound, "getting Firecracker: nothing says what its checksum is: %w", err).WithHint("bandsox init --firecracker-url %s --firecracker-sha256 SUM", source)
	}
	return sumOf(strings.TrimPrefix(source, "file://"))
}

var sumWords = regexp.MustCompile(`^[0-9a-f]{64}$`)

// publishedSum reads the checksum that lies beside an archive.
func publishedSum(ctx context.Context, bin, source string) (string, error) {
	dir, err := os.MkdirTemp(bin, ".sum-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sum")
	if err := kernel.Fetch(ctx, source+".sha256.txt", path, kernel.FetchOptions{MaxBytes: 4 << 10, What: "Firecracker's checksum"}); err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	f := strings.Fields(string(text))
	if len(f) == 0 || !sumWords.MatchString(f[0]) {
		return "", wire.Errorf(CodeInvalid, "getting Firecracker: %s.sha256.txt holds no checksum", source)
	}
	return f[0], nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", wire.Errorf(CodeNotFound, "getting Firecracker: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// installFirecracker moves the two programs of an unpacked release into a
// directory of their own, which is never changed again, and has the links to
// those in use lead there.
func installFirecracker(bin, unpacked, source, sum string) (Firecracker, error) {
	program, version, err := released(unpacked, "firecracker")
	if err != nil {
		return Firecracker{}, err
	}
	jailer, _, err := released(unpacked, "jailer")
	if err != nil {
		return Firecracker{}, err
	}
	stage, err := os.MkdirTemp(bin, ".stage-")
	if err != nil {
		return Firecracker{}, err
	}
	defer os.RemoveAll(stage)
	for name, from := range map[string]string{"firecracker": program, "jailer": jailer} {
		if err := errors.Join(os.Rename(from, filepath.Join(stage, name)), os.Chmod(filepath.Join(stage, name), 0o755)); err != nil {
			return Firecracker{}, err
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(stage, "source"), []byte(version+"\n"+source+"\n"), 0o644), os.Chmod(stage, 0o755)); err != nil {
		return Firecracker{}, err
	}
	dir := "firecracker-" + version + "-" + sum[:12]
	if err := os.Rename(stage, filepath.Join(bin, dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		return Firecracker{}, err
	}
	for _, name := range []string{"jailer", "firecracker"} {
		link := filepath.Join(bin, "."+name+"-"+store.NewID())
		if err := os.Symlink(filepath.Join(dir, name), link); err != nil {
			return Firecracker{}, err
		}
		if err := os.Rename(link, filepath.Join(bin, name)); err != nil {
			return Firecracker{}, errors.Join(err, os.Remove(link))
		}
	}
	f, ok := installedFirecracker(bin)
	if !ok {
		return f, wire.Errorf(CodeInternal, "getting Firecracker: it isn't there after it was installed")
	}
	return f, nil
}

// released finds a program in an unpacked release, by the name that it has there.
func released(dir, program string) (path, version string, err error) {
	name := regexp.MustCompile(`^` + program + `-v(\d+\.\d+\.\d+\S*)-` + firecrackerArch + `$`)
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if m := name.FindStringSubmatch(d.Name()); err == nil && m != nil && d.Type().IsRegular() {
			path, version = p, m[1]
		}
		return err
	})
	if err == nil && path == "" {
		err = wire.Errorf(CodeInvalid, "getting Firecracker: the archive is no release for %s: there is no %s-vVERSION-%[1]s in it", firecrackerArch, program)
	}
	return path, version, err
}

// installedFirecracker is the one that the links in bin lead to.
func installedFirecracker(bin string) (Firecracker, bool) {
	to, err := os.Readlink(filepath.Join(bin, "firecracker"))
	if err != nil {
		return Firecracker{}, false
	}
	dir := filepath.Join(bin, filepath.Dir(to))
	text, err := os.ReadFile(filepath.Join(dir, "source"))
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 2 {
		return Firecracker{}, false
	}
	f := Firecracker{Version: lines[0], Source: lines[1], Path: filepath.Join(dir, "firecracker"), Jailer: filepath.Join(dir, "jailer")}
	for _, path := range []string{f.Path, f.Jailer} {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
			return Firecracker{}, false
		}
	}
	return f, true
}
