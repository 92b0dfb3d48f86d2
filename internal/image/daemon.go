package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Bounds on a daemon that is there but doesn't answer: a bare name is asked
// for on the way to the registry, and must not wait long.
const (
	dockerDialTimeout = 2 * time.Second
	dockerAskTimeout  = 10 * time.Second
)

// docker speaks the few calls that are needed of docker's HTTP API. The client
// library for them would bring 17 modules.
type docker struct {
	http *http.Client
	base string // URL before the path
	host string // for errors
}

// dockerInfo is the answer about an image.
type dockerInfo struct {
	ID           string `json:"Id"`
	OS           string `json:"Os"`
	Architecture string
	Size         int64
	Config       runConfig
}

func openDocker(ctx context.Context, r reference, o Options) (*Image, error) {
	want, err := o.platform()
	if err != nil {
		return nil, err
	}
	d, err := newDocker(o.Docker)
	if err != nil {
		return nil, err
	}
	id := r.id
	if id == "" {
		id = familiar(r.name)
	}
	info, err := d.inspect(ctx, id)
	if err == nil {
		err = checkPlatform(info.OS, info.Architecture, want)
	}
	if err != nil {
		d.http.CloseIdleConnections()
		return nil, err
	}
	return &Image{
		Digest: info.ID, Config: info.Config.config(), Source: SourceDocker, Size: info.Size,
		content: &dockerContent{docker: d, id: info.ID, what: r.String(), want: want, o: o},
	}, nil
}

// newDocker finds the daemon: what host says, else DOCKER_HOST, else the first
// of the usual sockets that is there.
func newDocker(host string) (*docker, error) {
	if host == "" {
		host = os.Getenv("DOCKER_HOST")
	}
	if host == "" {
		host = "/var/run/docker.sock"
		rootless := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "docker.sock")
		if filepath.IsAbs(rootless) && exists(rootless) && !exists(host) {
			host = rootless
		}
	}
	if strings.HasPrefix(host, "/") {
		host = "unix://" + host
	}
	scheme, addr, _ := strings.Cut(host, "://")
	dialer := &net.Dialer{Timeout: dockerDialTimeout}
	tr := &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: dockerAskTimeout}
	d := &docker{http: &http.Client{Transport: tr}, host: host, base: "http://" + addr}
	switch scheme {
	case "unix":
		d.base = "http://docker"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", addr)
		}
	case "http", "https", "tcp":
		if scheme == "https" || os.Getenv("DOCKER_TLS_VERIFY") != "" {
			var err error
			if tr.TLSClientConfig, err = dockerTLS(); err != nil {
				return nil, wire.Errorf(wire.Unavailable, "docker daemon at %q: %w", host, err).
					WithHint("set DOCKER_CERT_PATH to the directory of cert.pem, key.pem and ca.pem")
			}
			d.base = "https://" + addr
		}
	default:
		return nil, wire.Errorf(wire.Unavailable, "docker daemon at %q: only unix:// and tcp:// are spoken here", host).
			WithHint("docker save IMAGE | bandsox run docker-archive:-")
	}
	return d, nil
}

// dockerTLS reads the certificates where docker's own client looks for them.
func dockerTLS() (*tls.Config, error) {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		home, _ := os.UserHomeDir()
		dir = filepath.Join(home, ".docker")
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fileError("reading docker's certificates in", dir, err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fileError("reading docker's certificates in", dir, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool}, nil
}

// get asks for /images/NAME/verb. The slashes of a name stay as they are:
// docker's router wants them so.
func (d *docker) get(ctx context.Context, id, verb string) (*http.Response, error) {
	u, err := url.Parse(d.base + "/images/")
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "docker daemon at %q: %w", d.host, err)
	}
	u.Path += id + "/" + verb
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "docker daemon at %q: %w", d.host, err)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, d.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	said := refusal(resp)
	if resp.StatusCode == http.StatusNotFound {
		return nil, wire.Errorf(wire.NotFound, "docker daemon at %q: %s", d.host, said).
			WithHint("docker pull %s", id)
	}
	return nil, wire.Errorf(wire.Unavailable, "docker daemon at %q: %s", d.host, said)
}

// refusal is what the daemon says where it does not do what it was asked for.
func refusal(resp *http.Response) string {
	var said struct{ Message string }
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(b, &said); said.Message == "" {
		said.Message = resp.Status
	}
	return said.Message
}

func (d *docker) unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the URL is not one that the reader knows
	}
	code, hint := wire.Unavailable, "docker info"
	if errors.Is(err, os.ErrPermission) {
		code, hint = wire.Denied, "sudo usermod -aG docker $USER, and log in again"
	}
	return wire.Errorf(code, "docker daemon at %q: %w", d.host, err).WithHint("%s", hint)
}

var fullDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (d *docker) inspect(ctx context.Context, id string) (*dockerInfo, error) {
	ask, cancel := context.WithTimeoutCause(ctx, dockerAskTimeout, errors.New("no answer in time"))
	defer cancel()
	resp, err := d.get(ask, id, "json")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := readBounded(resp.Body, maxConfig, "docker's answer")
	if err != nil {
		return nil, err
	}
	var info dockerInfo
	if err := json.Unmarshal(b, &info); err != nil || !fullDigest.MatchString(info.ID) {
		return nil, wire.Errorf(wire.Unavailable, "docker daemon at %q: its answer about %s is not understood", d.host, id)
	}
	return &info, nil
}

// dockerContent is an image in a daemon. It is exported when its files are
// first wanted, by its id: the name may mean another image by then.
type dockerContent struct {
	docker *docker
	id     string
	what   string
	want   v1.Platform
	o      Options

	mu      sync.Mutex
	content *layered
}

func (c *dockerContent) tar(ctx context.Context, w io.Writer, lim Limits) error {
	l, err := c.export(ctx)
	if err != nil {
		return err
	}
	return l.tar(ctx, w, lim)
}

func (c *dockerContent) export(ctx context.Context) (*layered, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.content != nil {
		return c.content, nil
	}
	resp, err := c.docker.get(ctx, c.id, "get")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	m := &meter{what: "exporting " + c.what + " from docker", tell: c.o.Progress}
	f, err := spool(ctx, c.o.Scratch, resp.Body, maxLayerSize, m.add)
	if err != nil {
		var coded *wire.Error
		if errors.As(err, &coded) || ctx.Err() != nil {
			return nil, err
		}
		return nil, c.docker.unreachable(err)
	}
	m.end()
	t, err := indexTar(ctx, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	a, err := readArchive(t, "", c.want)
	if err != nil {
		f.Close()
		return nil, err
	}
	c.content = newLayered(a.blobs, c.what, c.o, f.Close)
	return c.content, nil
}

func (c *dockerContent) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.docker.http.CloseIdleConnections()
	if c.content == nil {
		return nil
	}
	return c.content.Close()
}
