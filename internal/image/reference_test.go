package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestNormalize(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	colon := filepath.Join(dir, "with:colon")
	must(t, os.Mkdir(colon, 0o755))
	sha := "sha256:" + strings.Repeat("ab", 32)
	for in, want := range map[string]string{
		"alpine":                       "docker.io/library/alpine:latest",
		"python:3-alpine":              "docker.io/library/python:3-alpine",
		"docker.io/alpine":             "docker.io/library/alpine:latest",
		"index.docker.io/library/x:y":  "docker.io/library/x:y",
		"docker://a/b":                 "docker.io/a/b:latest",
		"localhost:5000/x":             "localhost:5000/x:latest",
		"ghcr.io/o/n@" + sha:           "ghcr.io/o/n@" + sha,
		"alpine:3@" + sha:              "docker.io/library/alpine@" + sha,
		"bandsox/base":                 "bandsox/base:bookworm",
		"bandsox/base:latest":          "bandsox/base:bookworm",
		"docker.io/bandsox/base":       "bandsox/base:bookworm",
		"index.docker.io/bandsox/base": "bandsox/base:bookworm",
		"docker-daemon:alpine":         "docker-daemon:docker.io/library/alpine:latest",
		"docker-daemon:" + sha:         "docker-daemon:" + sha,
		"docker-daemon:0123456789ab":   "docker-daemon:0123456789ab",
		"oci:x":                        "oci:" + dir + "/x",
		"oci:./x/../y:v1":              "oci:" + dir + "/y:v1",
		"oci:with:colon":               "oci:" + colon,
		"oci:with:colon:v1":            "oci:" + colon + ":v1",
		"oci:with:colon:" + sha:        "oci:" + colon + ":" + sha,
		"docker-archive:/a.tar":        "docker-archive:/a.tar",
		"docker-archive:/a.tar:x/y:1":  "docker-archive:/a.tar:x/y:1",
		"docker-archive:-":             "docker-archive:-",
		"oci-archive:-:v1":             "oci-archive:-:v1",
		"dir:.":                        "dir:" + dir,
		"dir:/a:b":                     "dir:/a:b",
	} {
		got, err := Normalize(in)
		if err != nil || got != want {
			t.Errorf("Normalize(%q) = %q, %v; want %q", in, got, err, want)
		}
		if again, err := Normalize(got); err != nil || again != got {
			t.Errorf("Normalize(%q) = %q, %v", got, again, err)
		}
	}
	if !IsName("alpine") || IsName("dir:/") || IsName("bandsox/base") || IsName("No") {
		t.Error("IsName is wrong")
	}
}

func TestBadReferences(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, os.WriteFile("rootfs.tar", nil, 0o600))
	must(t, os.MkdirAll("layout", 0o755))
	must(t, os.WriteFile("layout/oci-layout", nil, 0o600))
	for in, want := range map[string]struct {
		code wire.Code
		text string
	}{
		"":                        {wire.Invalid, "empty"},
		"Alpine":                  {wire.Invalid, "small letters"},
		"a b":                     {wire.Invalid, "a b"},
		"a\nb":                    {wire.Invalid, "control"},
		strings.Repeat("a", 5000): {wire.Invalid, "long"},
		"https://ghcr.io/a/b":     {wire.Invalid, "ghcr.io/a/b"},
		"bandsox/base:trixie":     {wire.NotFound, "bandsox/base:bookworm"},
		"rootfs.tar":              {wire.Invalid, "docker-archive:rootfs.tar"},
		"./layout":                {wire.Invalid, "oci:./layout"},
		dir:                       {wire.Invalid, "dir:" + dir},
		"/no/such":                {wire.NotFound, "no such file"},
		"oci:":                    {wire.Invalid, "oci:PATH"},
		"oci:x:":                  {wire.Invalid, "last colon"},
		"docker-daemon:":          {wire.Invalid, "docker-daemon:"},
	} {
		_, err := Normalize(in)
		if err == nil {
			t.Errorf("Normalize(%q): no error", in)
			continue
		}
		wantError(t, err, want.code, want.text)
	}
	// A name that is a file's too is a name.
	must(t, os.WriteFile("alpine", nil, 0o600))
	if _, err := Normalize("alpine"); err != nil {
		t.Error(err)
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{
		"alpine", "a/b:c", "localhost:5000/x@sha256:" + strings.Repeat("0", 64), "oci:/a:b:c", "docker-archive:-:x", "dir:../..",
		"docker-daemon:0123456789ab", "bandsox/base:latest", "docker://x", "./x.tar", "oci:a:", "\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Normalize(s)
		if err != nil {
			if wire.CodeOf(err) == wire.Internal {
				t.Errorf("Normalize(%q): %v has no class", s, err)
			}
			return
		}
		if again, err := Normalize(got); err != nil || again != got {
			t.Errorf("Normalize(%q) = %q, and of that %q, %v", s, got, again, err)
		}
	})
}
