package kernel

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// archive is one signed index of a mirror.
type archive struct{ url, suite string }

// fromDebian gets Debian's cloud kernel from a mirror without apt: the index
// is signed by a key of the host's keyring, and every file beneath it has its
// sum there.
func fromDebian(ctx context.Context, o InstallOptions, cache, tmp string) (found, error) {
	urls := strings.Fields(o.Mirror)
	if len(urls) == 0 {
		return found{}, wire.Errorf(wire.Unavailable, "no mirror of Debian is named").WithHint("BANDSOX_DEBIAN_MIRROR=URL bandsox init")
	}
	mirror := strings.TrimSuffix(urls[0], "/")
	security := archive{url: mirror + "-security"}
	if len(urls) > 1 {
		security.url = strings.TrimSuffix(urls[1], "/")
	}
	keys, err := readKeyring(o.Keyring)
	if err != nil {
		return found{}, err
	}
	suite := o.Suite
	if suite == "" {
		suite = hostSuite("/etc/os-release")
	}
	index := packageIndex{}
	if err := index.add(ctx, o, archive{mirror, suite}, keys, tmp); err != nil {
		return found{}, err
	}
	// Updates of kernels come through the security archive first. It isn't
	// everywhere where the main one is.
	security.suite = suite + "-security"
	if err := index.add(ctx, o, security, keys, tmp); err != nil && (fatal(ctx, err) || wire.CodeOf(err) == wire.Denied) {
		return found{}, err
	}
	pkgs, err := closure(metaPackage(o.Arch), func(pkg string) (paragraph, error) {
		if p := index[pkg]; p != nil {
			return p, nil
		}
		return nil, noPackage(pkg)
	})
	if err != nil {
		return found{}, err
	}
	var debs []string
	for _, p := range pkgs {
		deb := filepath.Join(cache, p["SHA256"]+".deb")
		if err := Fetch(ctx, p[fieldURL], deb, o.fetchOptions(p["Package"], p["SHA256"], maxVmlinux)); err != nil {
			return found{}, err
		}
		debs = append(debs, deb)
	}
	return fromPackages(ctx, found{source: pkgs[0][fieldURL]}, tmp, debs...)
}

// fieldURL is added by us: where the package's file is.
const fieldURL = "url"

// packageIndex is the newest paragraph of each kernel package.
type packageIndex map[string]paragraph

// add reads the packages of an archive whose signature is good.
func (x packageIndex) add(ctx context.Context, o InstallOptions, a archive, keys keyring, tmp string) error {
	rel, err := a.release(ctx, o, keys, tmp)
	if err != nil {
		return err
	}
	list, sum, err := rel.packages(o.Arch)
	if err != nil {
		return fail(err, "reading the index of %s %s", a.url, a.suite)
	}
	from := a.url + "/dists/" + a.suite + "/" + list
	if rel.fields["Acquire-By-Hash"] == "yes" { // a mirror amid its update still has the one we mean
		from = a.url + "/dists/" + a.suite + "/" + path.Dir(list) + "/by-hash/SHA256/" + sum
	}
	file := filepath.Join(tmp, "packages-"+sum)
	if err := Fetch(ctx, from, file, o.fetchOptions(a.suite+" package list", sum, 256<<20)); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := decompress(f)
	if err != nil {
		return err
	}
	defer z.Close()
	return paragraphs(bounded(z, 2<<30), func(p paragraph) error {
		name := p["Package"]
		if !kernelPackage.MatchString(name) {
			return nil
		}
		if old := x[name]; old != nil && compareVersions(old["Version"], p["Version"]) >= 0 {
			return nil
		}
		sum, err := parseSHA256(p["SHA256"])
		if err != nil || sum == "" || !filepath.IsLocal(p["Filename"]) {
			return wire.Errorf(wire.Invalid, "reading the index of %s %s: package %s without a sum or a file", a.url, a.suite, name)
		}
		p["SHA256"], p[fieldURL] = sum, a.url+"/"+p["Filename"]
		x[name] = p
		return nil
	})
}

// release is an archive's InRelease file, verified.
type release struct{ fields paragraph }

func (a archive) release(ctx context.Context, o InstallOptions, keys keyring, tmp string) (*release, error) {
	file := filepath.Join(tmp, "InRelease-"+filepath.Base(a.suite))
	from := a.url + "/dists/" + a.suite + "/InRelease"
	if err := Fetch(ctx, from, file, FetchOptions{MaxBytes: 8 << 20, Attempts: 2, Stall: 15 * time.Second, Client: o.Client}); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text, err := keys.verify(b)
	if err != nil {
		return nil, fail(err, "checking the signature of %s", from)
	}
	var r *release
	err = paragraphs(bytes.NewReader(text), func(p paragraph) error {
		if r != nil {
			return errors.New("more than one paragraph")
		}
		r = &release{p}
		return nil
	})
	if err != nil || r == nil {
		return nil, wire.Errorf(wire.Invalid, "reading %s: no release file", from)
	}
	// A good signature on another release's index is no good for this one, nor
	// is one that a mirror has kept from long ago.
	if r.fields["Suite"] != a.suite && r.fields["Codename"] != a.suite {
		return nil, wire.Errorf(wire.Denied, "reading %s: it is the index of %q", from, r.fields["Suite"])
	}
	if until := r.fields["Valid-Until"]; until != "" {
		t, err := time.Parse(time.RFC1123, until)
		if err != nil || time.Now().After(t) {
			return nil, wire.Errorf(wire.Denied, "reading %s: it was valid until %s", from, until).WithHint("date")
		}
	}
	return r, nil
}

// packages picks the package list to read, and its sum.
func (r *release) packages(arch string) (list, sum string, err error) {
	base := "main/binary-" + arch + "/Packages"
	sums := map[string]string{}
	for line := range strings.Lines(r.fields["SHA256"]) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && n > 0 {
			sums[f[2]] = f[0]
		}
	}
	for _, ext := range []string{".xz", ".gz", ""} {
		if s, err := parseSHA256(sums[base+ext]); err == nil && s != "" {
			return base + ext, s, nil
		}
	}
	return "", "", wire.Errorf(wire.NotFound, "no packages for %s", arch)
}

// hostSuite is this host's Debian release, so that its keyring fits, else the
// stable one.
func hostSuite(osRelease string) string {
	b, _ := os.ReadFile(osRelease)
	v := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, val, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[k] = strings.Trim(val, `"'`)
		}
	}
	if c := v["VERSION_CODENAME"]; v["ID"] == "debian" && c != "" && filepath.IsLocal(c) {
		return c
	}
	return "stable"
}
