package bandsox

import (
	"context"
	"io"

	"github.com/bandsox/bandsox/internal/image"
)

// BuildOptions says what to build. One of Dir, Context and Dockerfile is
// needed; Dockerfile alone is a build that has no files.
type BuildOptions struct {
	Dir        string    // the build's files: a directory of this host, without what its .dockerignore names
	Context    io.Reader // or a tar archive of them, which may be compressed
	File       string    // the Dockerfile's path among them; default Dockerfile
	Dockerfile io.Reader // or what it says; not with Context
	Tag        string    // the image's name; default none: it goes by its digest
	Target     string    // the stage to build; default the last
	Args       map[string]string
	NoCache    bool      // do every step anew
	Pull       bool      // look for newer base images
	Log        io.Writer // what the build says, as it says it; its end is in the error of one that fails
}

// Pack returns the build's files as a tar archive, and the Dockerfile's path in
// it: what docker's API and ours take. Symbolic links are packed and never
// followed, so nothing outside of Dir gets in.
func (o BuildOptions) Pack(ctx context.Context) (io.ReadCloser, string, error) {
	c := image.BuildContext{Dir: o.Dir, Tar: o.Context, File: o.File, Dockerfile: o.Dockerfile}
	r, file, err := c.Open(ctx)
	return r, file, fail("build", o.Tag, err)
}

// Build builds an image of a Dockerfile and brings it into the local store. A
// docker daemon does the work, in containers of its host: what RUN does is kept
// apart as well as these are, and no better. It ends with ctx.
func (m *Manager) Build(ctx context.Context, o BuildOptions) (Image, error) {
	img, err := m.buildImage(ctx, o)
	return img, fail("build", o.Tag, err)
}

func (m *Manager) buildImage(ctx context.Context, o BuildOptions) (Image, error) {
	ref := ""
	if o.Tag != "" {
		var err error
		if ref, err = image.Normalize(o.Tag); err != nil {
			return Image{}, err
		}
	}
	tar, file, err := o.Pack(ctx)
	if err != nil {
		return Image{}, err
	}
	defer tar.Close()
	opts := m.imageOptions(ctx)
	id, err := image.Build(ctx, opts, image.BuildRequest{Context: tar, File: file, Tag: o.Tag, Target: o.Target,
		Args: o.Args, NoCache: o.NoCache, Pull: o.Pull, Log: o.Log})
	if err != nil {
		return Image{}, err
	}
	// By its id: the name may stand for what another build has made since.
	src, err := image.Open(ctx, "docker-daemon:"+id, opts)
	if err != nil {
		return Image{}, err
	}
	if ref != "" {
		src.Ref = ref
	}
	return m.keep(ctx, src)
}
