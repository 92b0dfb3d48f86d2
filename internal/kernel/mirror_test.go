package kernel

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/bandsox/bandsox/internal/wire"
)

// mirror is a Debian archive and its security archive, signed with a key of
// the test's own.
type mirror struct {
	*httptest.Server
	mu      sync.Mutex
	files   map[string][]byte
	key     *openpgp.Entity
	keyring string
}

var edDSA = &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA} // made faster than an RSA key

func newMirror(t *testing.T) *mirror {
	t.Helper()
	key, err := openpgp.NewEntity("test archive", "", "test@example.org", edDSA)
	if err != nil {
		t.Fatal(err)
	}
	var pub bytes.Buffer
	if err := key.Serialize(&pub); err != nil {
		t.Fatal(err)
	}
	m := &mirror{files: map[string][]byte{}, key: key, keyring: put(t, pub.Bytes())}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		b, ok := m.files[r.URL.Path]
		m.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	t.Cleanup(m.Close)
	return m
}

// add puts a kernel of the version into an archive.
func (m *mirror) add(t *testing.T, archive, suite, version string) {
	t.Helper()
	name := "linux-image-" + version + "-cloud-amd64"
	deb := debKernel(t, version+"-cloud-amd64", "gzip")
	m.files[archive+"/pool/k.deb"] = deb
	m.index(t, archive, suite, fmt.Sprintf(`Package: bash
Version: 5

Package: linux-image-cloud-amd64
Version: %[1]s-1
Filename: pool/meta.deb
SHA256: %[3]s
Depends: %[2]s (= %[1]s-1), other | linux-image-x

Package: %[2]s
Version: %[1]s-1
Filename: pool/k.deb
SHA256: %[3]s
Depends: kmod, linux-base (>= 4.3~)
Description: a kernel
 that is for
 clouds
`, version, name, sum(deb)), "")
}

// index signs a package list.
func (m *mirror) index(t *testing.T, archive, suite, packages, fields string) {
	t.Helper()
	list := gz([]byte(packages))
	m.files[archive+"/dists/"+suite+"/main/binary-amd64/by-hash/SHA256/"+sum(list)] = list
	m.release(t, archive, suite, fmt.Sprintf("Suite: old%[1]s\nCodename: %[1]s\nAcquire-By-Hash: yes\n%[2]sSHA256:\n %[3]s 0 main/binary-amd64/Packages.xz\n %[4]s %[5]d main/binary-amd64/Packages.gz\n",
		suite, fields, sum(nil), sum(list), len(list)))
}

func (m *mirror) release(t *testing.T, archive, suite, text string) {
	t.Helper()
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, m.key.PrivateKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(text))
	w.Close()
	m.files[archive+"/dists/"+suite+"/InRelease"] = signed.Bytes()
}

func (m *mirror) install(t *testing.T) (*Kernel, error) {
	t.Helper()
	return Install(t.Context(), t.TempDir(), InstallOptions{Search: []string{"debian"}, Arch: "amd64",
		Mirror: m.URL + "/debian", Suite: "bookworm", Keyring: m.keyring})
}

func TestDebianMirror(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.add(t, "/debian", "bookworm", "6.1.9")
	k, err := m.install(t)
	if err != nil {
		t.Fatal(err)
	}
	if k.Version != "6.1.9-cloud-amd64" || k.Drivers["overlay"] != Loaded || k.Drivers["ext4"] != Builtin || k.Drivers["virtio_pci"] != Missing {
		t.Errorf("installed %+v", k)
	}
	// The security archive has a newer one: 10 comes after 9.
	m.add(t, "/debian-security", "bookworm-security", "6.1.10")
	if k, err = m.install(t); err != nil || k.Version != "6.1.10-cloud-amd64" {
		t.Errorf("with a security archive: %+v, %v", k, err)
	}
	m.add(t, "/debian", "bookworm", "6.1.11")
	if k, err = m.install(t); err != nil || k.Version != "6.1.11-cloud-amd64" {
		t.Errorf("with an older security archive: %+v, %v", k, err)
	}
}

// TestDebianMirrorEvil: whoever holds the mirror, or the way to it, can keep a
// kernel from us but not give us another.
func TestDebianMirrorEvil(t *testing.T) {
	for name, evil := range map[string]func(t *testing.T, m *mirror){
		"another key": func(t *testing.T, m *mirror) {
			m.key, _ = openpgp.NewEntity("evil", "", "evil@example.org", edDSA)
			m.add(t, "/debian", "bookworm", "6.1.9")
		},
		"unsigned": func(t *testing.T, m *mirror) {
			m.files["/debian/dists/bookworm/InRelease"] = []byte("Suite: bookworm\n")
		},
		"changed after signing": func(t *testing.T, m *mirror) {
			f := "/debian/dists/bookworm/InRelease"
			m.files[f] = bytes.Replace(m.files[f], []byte("Packages.gz"), []byte("Packages.xz"), 1)
		},
		"words around the signed ones": func(t *testing.T, m *mirror) {
			f := "/debian/dists/bookworm/InRelease"
			own := "Suite: evil\nSHA256:\n " + sum([]byte("x")) + " 1 main/binary-amd64/Packages\n\n"
			m.release(t, "/debian", "bookworm", "Suite: other\n")
			m.files[f] = append([]byte(own), m.files[f]...)
		},
		"another release": func(t *testing.T, m *mirror) {
			m.files["/debian/dists/bookworm/InRelease"] = m.files["/debian/dists/buster/InRelease"]
		},
		"expired": func(t *testing.T, m *mirror) {
			m.index(t, "/debian", "bookworm", "Package: x\n", "Valid-Until: Sat, 21 Nov 2020 00:53:02 UTC\n")
		},
		"another list": func(t *testing.T, m *mirror) {
			for f := range m.files {
				if filepath.Base(filepath.Dir(f)) == "SHA256" {
					m.files[f] = gz([]byte("Package: linux-image-cloud-amd64\n"))
				}
			}
		},
		"another package": func(t *testing.T, m *mirror) { m.files["/debian/pool/k.deb"] = debKernel(t, "6.6.6", "gzip") },
		"a path outside": func(t *testing.T, m *mirror) {
			m.index(t, "/debian", "bookworm", "Package: linux-image-cloud-amd64\nVersion: 1\nFilename: ../../x\nSHA256: "+sum(nil)+"\n", "")
		},
		"an evil security archive": func(t *testing.T, m *mirror) {
			m.key, _ = openpgp.NewEntity("evil", "", "evil@example.org", edDSA)
			m.add(t, "/debian-security", "bookworm-security", "6.6.6")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t)
			m.add(t, "/debian", "buster", "4.19.1")
			m.add(t, "/debian", "bookworm", "6.1.9")
			evil(t, m)
			if k, err := m.install(t); err == nil {
				t.Errorf("installed %+v", k)
			} else {
				t.Log(err)
			}
		})
	}
}

// TestDebianMirrorNamed: a security archive elsewhere, and no mirror at all.
func TestDebianMirrorNamed(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.add(t, "/debian", "bookworm", "6.1.9")
	m.add(t, "/elsewhere", "bookworm-security", "6.1.10")
	o := InstallOptions{Search: []string{"debian"}, Arch: "amd64", Suite: "bookworm", Keyring: m.keyring,
		Mirror: m.URL + "/debian/ " + m.URL + "/elsewhere/"}
	if k, err := Install(t.Context(), t.TempDir(), o); err != nil || k.Version != "6.1.10-cloud-amd64" {
		t.Errorf("with a security archive elsewhere: %+v, %v", k, err)
	}
	o.Mirror = " "
	_, err := Install(t.Context(), t.TempDir(), o)
	if wire.CodeOf(err) != wire.Unavailable || !strings.Contains(err.Error(), "BANDSOX_DEBIAN_MIRROR=") {
		t.Errorf("without a mirror: %v", err)
	}
}

func TestKeyring(t *testing.T) {
	m := newMirror(t)
	m.keyring = filepath.Join(t.TempDir(), "none")
	if _, err := m.install(t); err == nil {
		t.Error("installed without a keyring")
	}
	if _, err := readKeyring(put(t, []byte("noise"))); err == nil {
		t.Error("read noise as a keyring")
	}
	if code := wire.CodeOf(func() error { _, err := readKeyring(put(t, nil)); return err }()); code != wire.NotFound {
		t.Errorf("an empty keyring is %s", code)
	}
}

func TestHostSuite(t *testing.T) {
	for text, want := range map[string]string{
		"ID=debian\nVERSION_CODENAME=trixie\n": "trixie",
		"ID=ubuntu\nVERSION_CODENAME=noble\n":  "stable",
		"ID=debian\n":                          "stable",
		"ID=debian\nVERSION_CODENAME=../x\n":   "stable",
	} {
		if got := hostSuite(put(t, []byte(text))); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := hostSuite(filepath.Join(t.TempDir(), "none")); got != "stable" {
		t.Errorf("no os-release: %s", got)
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"1.0~rc1-1", "1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u10", "1.0a-1", "1.0.1-1", "6.1.9-1", "6.1.10-1", "6.1.10-2", "1:0.1"}
	for i, a := range sorted {
		for j, b := range sorted {
			got := compareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
	if compareVersions("0:1.01-0", "1.1") != 0 {
		t.Error("equal versions differ")
	}
}

func FuzzVersions(f *testing.F) {
	f.Add("1.0~rc1-1", "1:2-3")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b)*compareVersions(b, a) > 0 || compareVersions(a, a) != 0 {
			t.Fatalf("%q and %q have no order", a, b)
		}
	})
}

func FuzzParagraphs(f *testing.F) {
	f.Add([]byte("Package: a\nDepends: linux-image-1 (= 2), b | c\n more\n\nPackage: b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = paragraphs(bytes.NewReader(b), func(p paragraph) error {
			kernelDepends(p["Depends"])
			_, _, _ = (&release{p}).packages("amd64")
			return nil
		})
	})
}
