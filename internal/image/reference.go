package image

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-containerregistry/pkg/name"
)

type kind string

const (
	kindName          kind = "" // a bare name
	kindDocker        kind = "docker-daemon"
	kindDockerArchive kind = "docker-archive"
	kindOCIArchive    kind = "oci-archive"
	kindLayout        kind = "oci"
	kindDir           kind = "dir"
	kindDebian        kind = "bandsox/base"
)

// reference is a parsed reference.
type reference struct {
	kind kind
	name name.Reference // kindName, and kindDocker unless id is set
	id   string         // kindDocker: an image's id
	path string         // the kinds with a path; "-" is standard input
	tag  string         // archives and layouts: which image in it; kindDebian: the suite
}

// String is the normalised reference; parsing it gives the same reference.
func (r reference) String() string {
	switch r.kind {
	case kindName:
		return familiar(r.name)
	case kindDebian:
		return string(kindDebian) + ":" + r.tag
	case kindDocker:
		if r.id != "" {
			return "docker-daemon:" + r.id
		}
		return "docker-daemon:" + familiar(r.name)
	}
	s := string(r.kind) + ":" + r.path
	if r.tag != "" {
		s += ":" + r.tag
	}
	return s
}

// familiar spells a name as docker does: docker.io, not index.docker.io.
func familiar(n name.Reference) string {
	s := n.Name()
	if rest, ok := strings.CutPrefix(s, name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return s
}

// Normalize returns the full spelling of ref: alpine becomes
// docker.io/library/alpine:latest, a relative path an absolute one. Two
// spellings of one image normalise to the same string.
func Normalize(ref string) (string, error) {
	r, err := parse(ref)
	if err != nil {
		return "", err
	}
	return r.String(), nil
}

// IsName reports whether ref is a name that a store, a daemon or a registry
// may know, and not the path of an archive or a directory, nor bandsox/base.
func IsName(ref string) bool {
	r, err := parse(ref)
	return err == nil && r.kind == kindName
}

func parse(ref string) (reference, error) {
	if ref == "" {
		return reference{}, invalidRef(ref, "it is empty").WithHint("bandsox run alpine")
	}
	if len(ref) > 4096 || strings.ContainsAny(ref, "\x00\n\r") {
		return reference{}, invalidRef(ref, "it is too long, or has control characters in it")
	}
	if scheme, rest, ok := strings.Cut(ref, ":"); ok {
		switch k := kind(scheme); k {
		case kindDockerArchive, kindOCIArchive, kindLayout, kindDir:
			return parsePath(ref, k, rest)
		case kindDocker:
			return parseDocker(ref, rest)
		}
	}
	if err := plainPath(ref); err != nil {
		return reference{}, err
	}
	// docker:// is skopeo's and podman's way to say "from the registry".
	n, err := parseName(ref, strings.TrimPrefix(ref, "docker://"))
	if err != nil {
		return reference{}, err
	}
	if tag, ok := n.(name.Tag); ok && tag.RegistryStr() == name.DefaultRegistry && tag.RepositoryStr() == string(kindDebian) {
		return debianReference(ref, tag.TagStr())
	}
	return reference{kind: kindName, name: n}, nil
}

func debianReference(ref, tag string) (reference, error) {
	if tag != debianSuite && tag != name.DefaultTag {
		return reference{}, wire.Errorf(wire.NotFound, "reading image reference %q: its one tag is %s", ref, debianSuite).
			WithHint("bandsox run %s:%s", kindDebian, debianSuite)
	}
	return reference{kind: kindDebian, tag: debianSuite}, nil
}

func invalidRef(ref, why string) *wire.Error {
	if len(ref) > 200 {
		ref = ref[:200] + "…"
	}
	return wire.Errorf(wire.Invalid, "reading image reference %q: %s", ref, why)
}

func parseName(ref, s string) (name.Reference, error) {
	n, err := name.ParseReference(s)
	if err != nil {
		e := invalidRef(ref, err.Error())
		if strings.Contains(s, "://") {
			return nil, e.WithHint("leave out the scheme: %s", s[strings.Index(s, "://")+3:])
		}
		return nil, e.WithHint("names look like alpine, python:3-alpine or ghcr.io/owner/name:tag, in small letters")
	}
	return n, nil
}

// imageID is how docker names an image by its id, shortened or not.
var imageID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{12,64}$`)

func parseDocker(ref, rest string) (reference, error) {
	r := reference{kind: kindDocker}
	if imageID.MatchString(rest) {
		r.id = rest
		return r, nil
	}
	var err error
	r.name, err = parseName(ref, rest)
	return r, err
}

// parsePath splits PATH[:TAG]. A path may have colons in it: the longest one
// that exists wins, and where none does, the first colon splits.
func parsePath(ref string, k kind, rest string) (reference, error) {
	r := reference{kind: k, path: rest}
	if k != kindDir && !exists(rest) {
		path, tag, found := strings.Cut(rest, ":")
		for i := strings.LastIndexByte(rest, ':'); i > 0; i = strings.LastIndexByte(rest[:i], ':') {
			if exists(rest[:i]) {
				path, tag = rest[:i], rest[i+1:]
				break
			}
		}
		r.path, r.tag = path, tag
		if found && r.tag == "" {
			return r, invalidRef(ref, "nothing follows the last colon")
		}
	}
	if r.path == "" {
		return r, invalidRef(ref, "the path is missing").WithHint("%s:PATH", k)
	}
	if r.path == "-" && (k == kindDockerArchive || k == kindOCIArchive) {
		return r, nil
	}
	abs, err := filepath.Abs(r.path)
	if err != nil {
		return r, invalidRef(ref, err.Error())
	}
	r.path = abs
	return r, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return path != "" && err == nil
}

// plainPath catches a path where a reference is wanted, and says how to write
// it. A name that is also a file's is still a name, unless it looks like one.
func plainPath(ref string) error {
	looks := strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, ".") || strings.HasPrefix(ref, "~")
	for _, ext := range []string{".tar", ".tgz", ".tar.gz", ".tar.zst"} {
		looks = looks || strings.HasSuffix(ref, ext)
	}
	if !looks {
		return nil
	}
	if !exists(ref) {
		if strings.ContainsAny(ref[:1], "/.~") {
			return wire.Errorf(wire.NotFound, "reading image reference %q: no such file, and no image has such a name", ref).
				WithHint("docker-archive:FILE, oci-archive:FILE, oci:DIR or dir:DIR")
		}
		return nil
	}
	return invalidRef(ref, "a path needs a word before it that says what it is").
		WithHint("%s", suggest(ref))
}

// suggest looks into an existing path to tell what kind of image it is.
func suggest(path string) string {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		if exists(filepath.Join(path, "oci-layout")) {
			return fmt.Sprintf("%s:%s", kindLayout, path)
		}
		if skopeoDir(path) {
			return skopeoHint(path)
		}
		return fmt.Sprintf("%s:%s", kindDir, path)
	}
	return fmt.Sprintf("%s:%s or %s:%s", kindDockerArchive, path, kindOCIArchive, path)
}
