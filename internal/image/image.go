package image

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Policy says when a bare name may be looked up in a registry.
type Policy string

const (
	PullMissing Policy = "missing" // when no nearer place has it (the default)
	PullAlways  Policy = "always"  // at once, without asking a docker daemon
	PullNever   Policy = "never"   // not at all
)

// Places a bare name is looked for, for Options.Sources.
const (
	SourceDocker   = "docker"
	SourceRegistry = "registry"
)

// Options says where images come from and what they may cost. The zero value
// works.
type Options struct {
	Docker      string              // the daemon's socket or URL; "" = DOCKER_HOST, else the usual sockets
	Sources     []string            // where a bare name is looked for, in order; nil = docker, registry
	Mirrors     map[string][]string // registry host → mirrors (host[:port][/prefix], or a URL), tried in order before it
	Insecure    []string            // registry hosts spoken to without checking certificates, or over http
	CAFiles     []string            // PEM files trusted besides the system's certificates
	Platform    string              // wanted of an image of many platforms; "" = linux on this machine's processor
	MaxBytes    int64               // limit on the unpacked size; 0 = 64 GiB
	MaxEntries  int                 // limit on the files unpacked; 0 = 5 million
	Scratch     string              // directory for temporary files; "" = the system's
	Stdin       io.Reader           // what "-" reads in oci-archive:- and docker-archive:-
	Pull        Policy              // "" = PullMissing
	IdleTimeout time.Duration       // a registry silent for so long is given up; 0 = 60 s

	// DebianMirror is the URL of the archive that bandsox/base is built from, and
	// after a space that of its security archive; "" = those of the host's apt.
	DebianMirror string
	// Packages are Debian's that bandsox/base has besides its own.
	Packages []string

	// Progress is told of long work; total is 0 when unknown. May be nil.
	Progress func(what string, done, total int64)
}

func (o Options) withDefaults() (Options, error) {
	if o.Sources == nil {
		o.Sources = []string{SourceDocker, SourceRegistry}
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 30
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = 5_000_000
	}
	if o.Scratch == "" {
		o.Scratch = os.TempDir()
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = time.Minute
	}
	if o.Platform == "" {
		o.Platform = "linux/" + runtime.GOARCH
	}
	switch o.Pull {
	case "":
		o.Pull = PullMissing
	case PullMissing, PullAlways, PullNever:
	default:
		return o, wire.Errorf(wire.Invalid, "reading pull policy %q: not one of missing, always, never", o.Pull)
	}
	for _, s := range o.Sources {
		if s != SourceDocker && s != SourceRegistry {
			return o, wire.Errorf(wire.Invalid, "reading image sources: %q is not docker or registry", s)
		}
	}
	return o, nil
}

func (o Options) limits() Limits {
	return Limits{MaxBytes: o.MaxBytes, MaxEntries: o.MaxEntries, Scratch: o.Scratch}
}

func (o Options) platform() (v1.Platform, error) {
	p, err := v1.ParsePlatform(o.Platform)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return v1.Platform{}, wire.Errorf(wire.Invalid, "reading platform %q: want something like linux/amd64", o.Platform)
	}
	return *p, nil
}

// Image is a resolved image. It never changes: the same Digest always means
// the same files and config.
type Image struct {
	Ref    string // normalised
	Digest string // "sha256:<hex>" of the platform's manifest; of the config (docker) or the content (dir, bandsox/base) where there is none
	Config Config
	Names  []string // what a docker archive calls it, normalised
	Source string   // registry, docker, docker-archive, oci-archive, oci, dir or debian
	Size   int64    // bytes of the layers as they are stored or sent

	content content
	limits  Limits
}

// content is where an image's files come from.
type content interface {
	// tar writes the files as one flattened tar stream.
	tar(ctx context.Context, w io.Writer, lim Limits) error
	io.Closer
}

// Open resolves ref. It reads manifests and configs, but downloads no layer;
// only bandsox/base, which has no digest before it is built, is built here.
// The Image must be closed.
func Open(ctx context.Context, ref string, o Options) (*Image, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	img, err := open(ctx, r, o)
	if err != nil {
		return nil, about("opening", r.String(), err)
	}
	img.Ref = r.String()
	img.limits = o.limits()
	return img, nil
}

func open(ctx context.Context, r reference, o Options) (*Image, error) {
	switch r.kind {
	case kindDebian:
		return openDebian(ctx, r, o)
	case kindDir:
		return openDir(ctx, r, o)
	case kindLayout:
		return openLayout(ctx, r, o)
	case kindOCIArchive:
		return openOCIArchive(ctx, r, o)
	case kindDockerArchive:
		return openDockerArchive(ctx, r, o)
	case kindDocker:
		return openDocker(ctx, r, o)
	}
	return openName(ctx, r, o)
}

// openName looks for a bare name where o.Sources says. A docker daemon that is
// absent, broken or without the image is passed over: the registry decides.
// When that fails too, a daemon that was asked for by name is not forgotten.
func openName(ctx context.Context, r reference, o Options) (*Image, error) {
	var daemon string
	for _, s := range o.Sources {
		switch {
		case s == SourceDocker && o.Pull != PullAlways:
			img, err := openDocker(ctx, r, o)
			if err == nil {
				return img, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
			slog.Debug("image not taken from docker", "ref", r.String(), "err", err)
			daemon = brokenDaemon(o, err)
		case s == SourceRegistry && o.Pull != PullNever:
			img, err := openRegistry(ctx, r, o)
			return img, also(err, daemon)
		}
	}
	return nil, also(wire.Errorf(wire.NotFound, "it is not on this machine, and is not to be pulled").
		WithHint("bandsox image pull %s", r), daemon)
}

// brokenDaemon is the clause about a daemon that was configured and doesn't
// work; one that answers, and has no such image, does.
func brokenDaemon(o Options, err error) string {
	switch {
	case wire.CodeOf(err) == wire.NotFound:
		return ""
	case o.Docker != "":
		return "; " + err.Error()
	case os.Getenv("DOCKER_HOST") != "":
		return "; DOCKER_HOST: " + err.Error()
	}
	return ""
}

// Tar returns the image's files as one tar stream, in an order that any
// extractor accepts: directories before what is in them, hard links after
// their targets. A stream that ends with io.EOF is whole and verified; what
// was read before another error must be thrown away. Closing it early stops
// the work behind it. It can be called again.
func (i *Image) Tar(ctx context.Context) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	s := &tarStream{PipeReader: pr, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		err := i.content.tar(ctx, pw, i.limits)
		pw.CloseWithError(about("unpacking", i.Ref, err))
	}()
	return s, nil
}

// Close frees what the image holds, above all its downloaded layers.
func (i *Image) Close() error { return i.content.Close() }

type tarStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close waits for the writing side, so that nothing is in use after it.
func (s *tarStream) Close() error {
	s.PipeReader.Close()
	s.cancel()
	<-s.done
	return nil
}
