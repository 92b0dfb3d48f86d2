package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-cmp/cmp"
)

func TestDebianSources(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755))
	for name, text := range map[string]string{
		"sources.list": "# deb http://x trixie main\ndeb-src http://x trixie main\n" +
			"deb [signed-by=/k arch=amd64] https://mirror/debian trixie main contrib\n" +
			"deb https://me:secret@private/debian trixie main\ndeb cdrom:[x]/ trixie main\n",
		"sources.list.d/debian.sources": "# comment\nTypes: deb deb-src\nURIs: http://a/debian http://b/debian\n" +
			"Suites: trixie-updates\nComponents: contrib main\n\nTypes: deb\nURIs: http://s/\nSuites: trixie-security\n" +
			"Components: main\n\nTypes: deb\nURIs: http://off/\nSuites: trixie\nComponents: main\nEnabled: no\n",
		"sources.list.d/others.list":  "deb http://docker trixie stable\ndeb http://pg trixie-pgdg main\n",
		"sources.list.d/old.list.bak": "deb http://bak trixie main\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	want := []string{
		"deb https://mirror/debian bookworm main", "deb http://a/debian bookworm-updates main",
		"deb http://b/debian bookworm-updates main", "deb http://s/ bookworm-security main",
	}
	if d := cmp.Diff(want, debianSources(dir, "trixie")); d != "" {
		t.Error(d)
	}
	for _, codename := range []string{"bookworm", ""} {
		if got := debianSources(dir, codename); got != nil {
			t.Errorf("of codename %q: %q", codename, got)
		}
	}
	if got := osRelease([]byte("ID=debian\nVERSION_CODENAME=\"trixie\"\nx")); got["ID"] != "debian" || got["VERSION_CODENAME"] != "trixie" {
		t.Error(got)
	}
}

// A mirror that is named is used, whatever the host's apt says; a host that is
// no Debian names none.
func TestDebianMirror(t *testing.T) {
	got, err := Options{DebianMirror: " http://m/debian  https://s/security "}.debianSources()
	must(t, err)
	want := []string{"deb http://m/debian bookworm main", "deb http://m/debian bookworm-updates main", "deb https://s/security bookworm-security main"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"m/debian", "ftp://m/debian", "http://me:secret@m/debian", "http://a http://b http://c"} {
		_, err := Options{DebianMirror: bad}.debianSources()
		wantError(t, err, wire.Invalid, "archive")
	}
	for name, host := range map[string]struct {
		release, sources string
		want             []string
	}{
		"debian":            {"ID=debian\nVERSION_CODENAME=trixie\n", "deb http://m/debian trixie main\n", []string{"deb http://m/debian bookworm main"}},
		"no sources":        {"ID=debian\nVERSION_CODENAME=trixie\n", "", nil},
		"another's":         {"ID=ubuntu\nVERSION_CODENAME=noble\n", "deb http://m/ubuntu noble main\n", nil},
		"no release at all": {},
	} {
		etc := t.TempDir()
		must(t, os.Mkdir(filepath.Join(etc, "apt"), 0o755))
		must(t, os.WriteFile(filepath.Join(etc, "apt", "sources.list"), []byte(host.sources), 0o644))
		if host.release != "" {
			must(t, os.WriteFile(filepath.Join(etc, "os-release"), []byte(host.release), 0o644))
		}
		if d := cmp.Diff(host.want, hostSources(etc)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, err := (Options{}).debianSources(); err != nil { // where the tests' own host is no Debian
		wantError(t, err, wire.Unavailable, "BANDSOX_DEBIAN_MIRROR=")
	}
}

func TestDebianLog(t *testing.T) {
	var steps []string
	l := &debianLog{tell: func(s string) { steps = append(steps, s) }}
	io.WriteString(l, "I: running apt-get update...\r\n  12%]\nErr:1 http://x\nI: success in 1 s\nE: Failed to fetch http://x\nE: apt-get fail")
	io.WriteString(l, "ed\n"+strings.Repeat("x", 1<<20))
	if d := cmp.Diff([]string{"running apt-get update"}, steps); d != "" {
		t.Error(d)
	}
	wantError(t, l.failure("/s", errors.New("exit status 1")), wire.Unavailable, "mmdebstrap failed: Failed to fetch http://x", "apt-get update")
	l = &debianLog{}
	io.WriteString(l, "E: unable to pick chroot mode automatically\n")
	wantError(t, l.failure("/s", errors.New("exit status 25")), wire.Unavailable, "usermod --add-subuids 100000-165535", "bandsox image pull bandsox/base", "docker-archive:", "oci:")
	l = &debianLog{}
	io.WriteString(l, "tar: No space left on device\n")
	wantError(t, l.failure("/s", errors.New("exit status 1")), wire.Exhausted, "df -h /s", "exit status 1")
}

func needDebian(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds an image from the network: left out with -short")
	}
	if err := debianTools(); err != nil {
		t.Skipf("needs mmdebstrap and what it needs: %v", err)
	}
	if _, err := (Options{}).debianSources(); err != nil {
		t.Skipf("needs a Debian host, whose apt names a mirror: %v", err)
	}
}

func TestDebianBase(t *testing.T) {
	needDebian(t)
	o := options(t)
	steps := 0
	o.Progress = func(string, int64, int64) { steps++ }
	img, err := Open(context.Background(), "bandsox/base", o)
	if err != nil && strings.Contains(err.Error(), "Failed to fetch") {
		t.Skipf("needs a Debian mirror: %v", err)
	}
	must(t, err)
	defer img.Close()
	if img.Ref != "bandsox/base:bookworm" || !fullDigest.MatchString(img.Digest) || img.Size < 50<<20 || steps < 3 {
		t.Errorf("got %+v after %d steps", img, steps)
	}
	rc, err := img.Tar(context.Background())
	must(t, err)
	defer rc.Close()
	got := map[string]*tar.Header{}
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		got[h.Name] = h
	}
	for _, name := range []string{"./", "usr/bin/python3", "usr/bin/apt-get", "etc/ssl/certs/ca-certificates.crt", "etc/passwd", "usr/bin/bash"} {
		if got[name] == nil {
			t.Errorf("no %s in it", name)
		}
	}
	// This host's own names and settings.
	for _, name := range []string{"etc/resolv.conf", "etc/hostname", "etc/apt/apt.conf.d/99mmdebstrap"} {
		if got[name] != nil {
			t.Errorf("%s is in it", name)
		}
	}
	if h := got["bin"]; h == nil || h.Linkname != "usr/bin" {
		t.Errorf("/bin is %+v", h)
	}
}

// Cancelling a build ends all its processes, and leaves no file.
func TestDebianCancelled(t *testing.T) {
	needDebian(t)
	o := options(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Progress = func(what string, _, _ int64) {
		if strings.Contains(what, "extracting") {
			cancel()
		}
	}
	_, err := Open(ctx, "bandsox/base", o)
	if err != nil && strings.Contains(err.Error(), "Failed to fetch") {
		t.Skipf("needs a Debian mirror: %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if strings.Contains(string(mounts), o.Scratch) {
		t.Errorf("left mounted below %s:\n%s", o.Scratch, mounts)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), "TMPDIR="+o.Scratch) {
			t.Errorf("a process is left: %s", p)
		}
	}
}
