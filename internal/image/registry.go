package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// repository is one repository, with the places it can be had from: its
// mirrors, then the registry itself.
type repository struct {
	endpoints []*endpoint
	prefer    atomic.Int32 // the endpoint that last did well
}

type endpoint struct {
	host      string
	repo      name.Repository
	puller    *remote.Puller
	transport http.RoundTripper
	at        int32 // its place among the endpoints
}

func openRegistry(ctx context.Context, r reference, o Options) (*Image, error) {
	want, err := o.platform()
	if err != nil {
		return nil, err
	}
	repo, err := newRepository(r.name.Context(), o)
	if err != nil {
		return nil, err
	}
	img, err := repo.image(ctx, r, want, o)
	if err != nil {
		repo.close()
	}
	return img, err
}

func (r *repository) image(ctx context.Context, ref reference, want v1.Platform, o Options) (*Image, error) {
	raw, err := r.get(ctx, ref.name.Identifier())
	if err != nil {
		return nil, err
	}
	res, err := resolve(ctx, r, raw, want)
	if err != nil {
		return nil, err
	}
	return &Image{
		Digest: res.digest, Config: res.config.Config.config(), Source: SourceRegistry, Size: res.size,
		content: newLayered(res.blobs(r, true), "downloading "+ref.String(), o, r.close),
	}, nil
}

func newRepository(repo name.Repository, o Options) (*repository, error) {
	host := familiarHost(repo.RegistryStr())
	r := &repository{}
	add := func(host, prefix string, http bool) error {
		e, err := newEndpoint(host, prefix, repo.RepositoryStr(), http, o)
		if err == nil {
			e.at = int32(len(r.endpoints))
			r.endpoints = append(r.endpoints, e)
		}
		return err
	}
	for _, m := range o.Mirrors[host] {
		scheme, rest, ok := strings.Cut(m, "://")
		if !ok {
			scheme, rest = "", m
		}
		mirror, prefix, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
		if mirror == "" || scheme != "" && scheme != "http" && scheme != "https" {
			return nil, wire.Errorf(wire.Invalid, "reading mirror %q of %s: want host[:port][/prefix]", m, host)
		}
		if err := add(mirror, prefix, scheme == "http"); err != nil {
			return nil, err
		}
	}
	return r, add(repo.RegistryStr(), "", false)
}

func familiarHost(host string) string {
	if host == name.DefaultRegistry {
		return "docker.io"
	}
	return host
}

func newEndpoint(host, prefix, repo string, http bool, o Options) (*endpoint, error) {
	insecure := http || slices.Contains(o.Insecure, familiarHost(host))
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure) // https first, then http, as docker does
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "reading registry %q: %w", host, err)
	}
	tr, err := newTransport(o, insecure)
	if err != nil {
		return nil, err
	}
	puller, err := remote.NewPuller(
		remote.WithTransport(tr),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("bandsox"),
		remote.WithJobs(parallelDownloads+1),
		remote.WithRetryPredicate(retryable),
		remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 3}),
	)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", host, err)
	}
	e := &endpoint{host: familiarHost(host), repo: reg.Repo(repo), puller: puller, transport: tr}
	if prefix != "" {
		e.repo = reg.Repo(prefix, repo)
	}
	return e, nil
}

// get reads the manifest that a tag or digest names.
func (r *repository) get(ctx context.Context, id string) ([]byte, error) {
	var raw []byte
	err := r.each(ctx, func(e *endpoint) error {
		var ref name.Reference = e.repo.Tag(id)
		if strings.Contains(id, ":") {
			ref = e.repo.Digest(id)
		}
		d, err := e.puller.Get(ctx, ref)
		if err == nil {
			raw = d.Manifest
		}
		return err
	})
	return raw, err
}

func (r *repository) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	return r.get(ctx, d.Digest.String())
}

func (r *repository) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	var rc io.ReadCloser
	err := r.each(ctx, func(e *endpoint) error {
		l, err := e.puller.Layer(ctx, e.repo.Digest(d.Digest.String()))
		if err != nil {
			return err
		}
		body, err := l.Compressed()
		if err == nil {
			rc = &blobReader{ReadCloser: body, ctx: ctx, repo: r, host: e.host, at: e.at}
		}
		return err
	})
	return rc, err
}

// each tries do with one endpoint after the other, the preferred one first.
// When all fail, the registry's own error is the one that counts.
func (r *repository) each(ctx context.Context, do func(*endpoint) error) error {
	n := len(r.endpoints)
	first := int(r.prefer.Load())
	var origin error
	var mirrors string
	for i := range n {
		at := (first + i) % n
		e := r.endpoints[at]
		err := do(e)
		if err == nil {
			r.prefer.CompareAndSwap(int32(first), int32(at)) // unless another download knows better
			return nil
		}
		err = registryError(ctx, e.host, err)
		if ctx.Err() != nil {
			return err
		}
		if at == n-1 {
			origin = err
		} else {
			mirrors += fmt.Sprintf("; mirror %s", strings.TrimPrefix(err.Error(), "registry "))
		}
	}
	return also(origin, mirrors)
}

// also adds more text to err, and keeps the rest of it.
func also(err error, more string) error {
	e, ok := err.(*wire.Error)
	if !ok || more == "" {
		return err
	}
	copied := *e
	copied.Message += more
	return &copied
}

func (r *repository) close() error {
	for _, e := range r.endpoints {
		if c, ok := e.transport.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
	return nil
}

// blobReader classifies the errors of a download on its way, and makes the
// next try begin at the next endpoint.
type blobReader struct {
	io.ReadCloser
	ctx  context.Context
	repo *repository
	host string
	at   int32
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.repo.prefer.CompareAndSwap(b.at, (b.at+1)%int32(len(b.repo.endpoints)))
		err = registryError(b.ctx, b.host, err)
	}
	return n, err
}
