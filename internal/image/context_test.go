package image

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/bandsox/bandsox/internal/wire"
)

// plant writes files; a value that begins with -> is a symbolic link.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if to, ok := strings.CutPrefix(text, "->"); ok {
			must(t, os.Symlink(to, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(text), 0o640))
	}
	return dir
}

// packed is what a context holds, by name, in the form of plant.
func packed(t *testing.T, c BuildContext) (files map[string]string, file string) {
	t.Helper()
	rc, file, err := c.Open(context.Background())
	must(t, err)
	defer rc.Close()
	files = map[string]string{}
	tr := tar.NewReader(rc)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return files, file
		}
		must(t, err)
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", h.Name, h.Uid, h.Gid)
		}
		b, err := io.ReadAll(tr)
		must(t, err)
		switch h.Typeflag {
		case tar.TypeSymlink:
			files[h.Name] = "->" + h.Linkname
		case tar.TypeLink:
			files[h.Name] = "=" + h.Linkname
		default:
			files[h.Name] = string(b)
		}
	}
}

func TestBuildContext(t *testing.T) {
	outside := plant(t, map[string]string{"secret": "s"})
	tree := map[string]string{
		"Dockerfile": "FROM scratch", "a": "1", "src/main.c": "2", "src/main.o": "3", "src/deep/x.o": "4", "src/deep/keep.o": "5",
		"node_modules/m/index.js": "6", "out": "->" + outside, "file": "->" + outside + "/secret", "in": "->src/main.c", "docker/Other": "FROM x",
	}
	with := func(ignore string) string {
		files := map[string]string{".dockerignore": ignore}
		for k, v := range tree {
			files[k] = v
		}
		if ignore == "" {
			delete(files, ".dockerignore")
		}
		return plant(t, files)
	}
	const ignore = "# what nobody needs\nnode_modules\n**/*.o\n!src/deep/keep.o\nDockerfile\n.dockerignore\n  docker/\n"
	links := map[string]string{"out": "->" + outside, "file": "->" + outside + "/secret", "in": "->src/main.c"}
	add := func(m map[string]string, more ...map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range append(more, m) {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	dirs := map[string]string{"src/": "", "src/deep/": "", "docker/": "", "node_modules/": "", "node_modules/m/": ""}
	for _, c := range []struct {
		name, ignore, file, wantFile string
		want                         map[string]string
	}{
		{"everything", "", "", "Dockerfile", add(tree, dirs)},
		{"without what is ignored", ignore, "", "Dockerfile", add(map[string]string{".dockerignore": ignore, "Dockerfile": "FROM scratch", "a": "1", "src/": "",
			"src/main.c": "2", "src/deep/": "", "src/deep/keep.o": "5"}, links)},
		{"but with its Dockerfile", ignore, "docker/Other", "docker/Other", add(map[string]string{".dockerignore": ignore, "docker/Other": "FROM x", "a": "1", "src/": "",
			"src/main.c": "2", "src/deep/": "", "src/deep/keep.o": "5"}, links)},
		{"nothing but", "*\n!src/main.c", "./Dockerfile", "Dockerfile", map[string]string{".dockerignore": "*\n!src/main.c", "Dockerfile": "FROM scratch", "src/main.c": "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, file := packed(t, BuildContext{Dir: with(c.ignore), File: c.file})
			if file != c.wantFile {
				t.Errorf("Dockerfile %q, want %q", file, c.wantFile)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}

	t.Run("a Dockerfile of its own", func(t *testing.T) {
		got, file := packed(t, BuildContext{Dir: with("*"), Dockerfile: strings.NewReader("FROM y")})
		want := map[string]string{file: "FROM y", ".dockerignore": "*\n" + file + "\n"}
		if d := cmp.Diff(want, got); d != "" || tree[file] != "" {
			t.Error(file, d)
		}
		got, file = packed(t, BuildContext{Dockerfile: strings.NewReader("FROM y")})
		want = map[string]string{file: "FROM y", ".dockerignore": ".dockerignore\n" + file + "\n"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})

	t.Run("links and what is no file", func(t *testing.T) {
		dir := plant(t, map[string]string{"Dockerfile": "FROM scratch"})
		must(t, os.Link(filepath.Join(dir, "Dockerfile"), filepath.Join(dir, "Second")))
		must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
		got, _ := packed(t, BuildContext{Dir: dir})
		if d := cmp.Diff(map[string]string{"Dockerfile": "FROM scratch", "Second": "=Dockerfile"}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestBuildContextRefuses(t *testing.T) {
	outside := plant(t, map[string]string{"Dockerfile": "FROM secret"})
	text := func() io.Reader { return strings.NewReader("FROM x") }
	for name, c := range map[string]BuildContext{
		"nothing":                    {},
		"a path that leads out":      {Dir: outside, File: "../Dockerfile"},
		"an absolute path":           {Dir: outside, File: "/etc/passwd"},
		"two contexts":               {Dir: outside, Tar: text()},
		"two Dockerfiles":            {Dir: outside, File: "a", Dockerfile: text()},
		"a Dockerfile by an archive": {Tar: text(), Dockerfile: text()},
		"no Dockerfile":              {Dir: t.TempDir()},
		"a directory":                {Dir: filepath.Dir(outside), File: filepath.Base(outside)},
		"a link that leads out":      {Dir: plant(t, map[string]string{"Dockerfile": "->" + outside + "/Dockerfile"})},
		"ignores that lead out":      {Dir: plant(t, map[string]string{"Dockerfile": "x", ".dockerignore": "->" + outside + "/Dockerfile"})},
		"a bad pattern":              {Dir: plant(t, map[string]string{"Dockerfile": "x", ".dockerignore": "[a-"})},
		"a Dockerfile without end":   {Dockerfile: io.LimitReader(zeros{}, maxDockerfile+1)},
	} {
		rc, _, err := c.Open(context.Background())
		if wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
		if err == nil {
			rc.Close()
		}
	}
	if _, _, err := (BuildContext{Dir: filepath.Join(outside, "none")}).Open(context.Background()); wire.CodeOf(err) != wire.NotFound {
		t.Errorf("no directory: got %v, want not_found", err)
	}
	broken := errors.New("broken")
	if _, _, err := (BuildContext{Dockerfile: iotest.ErrReader(broken)}).Open(context.Background()); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}

	// One that nobody reads to its end is closed all the same.
	rc, _, err := (BuildContext{Dir: outside}).Open(context.Background())
	must(t, err)
	must(t, rc.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
