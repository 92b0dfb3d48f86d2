package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	dockerIgnore  = ".dockerignore"
	maxDockerfile = 4 << 20 // bytes of a Dockerfile, and of a .dockerignore
)

// BuildContext is what a build is given. The zero value holds nothing.
type BuildContext struct {
	Dir        string    // its files: a directory of this host, without what its .dockerignore names
	Tar        io.Reader // or those in this archive, which may be compressed
	File       string    // the Dockerfile's path among them; "" = Dockerfile
	Dockerfile io.Reader // or what it says; not with Tar
}

// Open returns the context as a tar archive, and the Dockerfile's path in it.
//
// Symbolic links are packed and never followed: nothing outside of the
// directory gets in. All belongs to root there, and what is no file, directory
// or link stays out.
func (c BuildContext) Open(ctx context.Context) (io.ReadCloser, string, error) {
	file := c.File
	if file == "" {
		file = "Dockerfile"
	}
	file = path.Clean(file)
	switch {
	case !filepath.IsLocal(file) || file == ".":
		return nil, "", wire.Errorf(wire.Invalid, "reading Dockerfile %q: its path must be one inside the build's context", c.File)
	case c.Dir != "" && c.Tar != nil:
		return nil, "", wire.Errorf(wire.Invalid, "reading the build's context: give a directory or an archive, not both")
	case c.File != "" && c.Dockerfile != nil:
		return nil, "", wire.Errorf(wire.Invalid, "reading Dockerfile %q: give its path or what it says, not both", c.File)
	case c.Tar != nil && c.Dockerfile != nil:
		return nil, "", wire.Errorf(wire.Invalid, "reading the build's context: a Dockerfile of its own goes with a directory, not with an archive").
			WithHint("put it into the archive and give its path there")
	case c.Tar != nil:
		return io.NopCloser(c.Tar), file, nil
	}
	p := &picker{keep: file, infos: map[string]patternmatcher.MatchInfo{}}
	var extra []textFile
	if c.Dir != "" {
		if err := p.open(c.Dir, c.Dockerfile == nil); err != nil {
			return nil, "", err
		}
	}
	if c.Dockerfile != nil {
		b, err := readBounded(c.Dockerfile, maxDockerfile, "the Dockerfile")
		if err != nil {
			return nil, "", err
		}
		// A name that nobody has, and that COPY doesn't find: the daemon
		// removes what .dockerignore names once it has read it.
		file = ".dockerfile." + rand.Text()
		own := p.text
		if own == nil {
			own = []byte(dockerIgnore)
		}
		p.keep, p.drop = "", dockerIgnore
		extra = []textFile{{file, b}, {dockerIgnore, []byte(string(own) + "\n" + file + "\n")}}
	} else if c.Dir == "" {
		return nil, "", wire.Errorf(wire.Invalid, "reading the build's context: give a directory, an archive or a Dockerfile")
	}
	r, w := io.Pipe()
	s := &sentContext{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		w.CloseWithError(packContext(ctx, c.Dir, w, p, extra))
	}()
	return s, file, nil
}

// sentContext ends with the goroutine that packs it.
type sentContext struct {
	*io.PipeReader
	done chan struct{}
}

func (s *sentContext) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

type textFile struct {
	name string
	text []byte
}

func packContext(ctx context.Context, dir string, w io.Writer, picks *picker, extra []textFile) error {
	out := bufio.NewWriterSize(w, 256<<10)
	p := newPacker(ctx, dir, out, Limits{})
	p.picks = picks
	if dir != "" {
		root, err := os.Open(dir)
		if err != nil {
			return fileError("reading directory", dir, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(root.Fd()), &st); err != nil {
			root.Close()
			return fileError("reading directory", dir, err)
		}
		if err := p.directory(root, "", &st, false); err != nil {
			return err
		}
	}
	for _, f := range extra {
		if err := p.write(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.text)), Mode: 0o600}); err != nil {
			return err
		}
		if _, err := p.tw.Write(f.text); err != nil {
			return err
		}
	}
	if err := p.tw.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// picker says what of a directory a build is given.
type picker struct {
	keep  string // the Dockerfile: the daemon must have it, whatever the patterns say
	drop  string // what another takes the place of
	text  []byte // of .dockerignore; nil: there is none
	match *patternmatcher.PatternMatcher
	infos map[string]patternmatcher.MatchInfo // of the directories
}

// open reads dir's .dockerignore and, if it needs it, looks for its Dockerfile.
func (p *picker) open(dir string, needs bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fileError("reading directory", dir, err)
	}
	defer root.Close()
	if needs {
		switch st, err := root.Stat(p.keep); {
		case errors.Is(err, fs.ErrNotExist):
			return wire.Errorf(wire.Invalid, "reading Dockerfile %q: no such file", filepath.Join(dir, p.keep)).WithHint("name another one by its path")
		case err != nil: // a link that leads out, too
			return wire.Errorf(wire.Invalid, "reading Dockerfile %q: %w", filepath.Join(dir, p.keep), err)
		case !st.Mode().IsRegular():
			return wire.Errorf(wire.Invalid, "reading Dockerfile %q: it is no file", filepath.Join(dir, p.keep))
		}
	}
	f, err := root.OpenFile(dockerIgnore, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	bad := func(err error) error {
		return wire.Errorf(wire.Invalid, "reading %q: %w", filepath.Join(dir, dockerIgnore), err)
	}
	if err != nil {
		return bad(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return bad(errors.New("it is no file"))
	}
	if p.text, err = readBounded(f, maxDockerfile, dockerIgnore); err != nil {
		return err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(p.text))
	if err != nil {
		return bad(err)
	}
	if p.match, err = patternmatcher.New(patterns); err != nil {
		return bad(err)
	}
	return nil
}

// pick says whether name is packed, and whether what is below it may be. A nil
// picker takes everything.
func (p *picker) pick(name string, kind uint32) (in, below bool, err error) {
	if p == nil {
		return true, true, nil
	}
	dir := kind == unix.S_IFDIR
	if !dir && kind != unix.S_IFREG && kind != unix.S_IFLNK || name == p.drop {
		return false, false, nil
	}
	if p.match == nil || name == p.keep || name == dockerIgnore {
		return true, dir, nil
	}
	ignored, info, err := p.match.MatchesUsingParentResults(name, p.infos[path.Dir(name)])
	if err != nil {
		return false, false, wire.Errorf(wire.Invalid, "reading %s: %w", dockerIgnore, err)
	}
	if !dir {
		return !ignored, false, nil
	}
	p.infos[name] = info
	// A pattern with an exclamation mark may take back in what is below.
	return !ignored, !ignored || p.match.Exclusions() || strings.HasPrefix(p.keep, name+"/"), nil
}
