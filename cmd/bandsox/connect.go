package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/auth"
)

// address says which server the commands speak to. Without any of it that is
// the one of the state directory, by its socket; it is started if need be.
type address struct {
	url         string
	host        string
	port        int
	ca          string
	fingerprint string
}

func (d *address) add(f *pflag.FlagSet) {
	f.StringVar(&d.url, "url", os.Getenv("BANDSOX_URL"), "server to speak to: http://HOST:PORT, https://HOST:PORT or unix:///PATH (default the state directory's own, started if need be)")
	f.StringVar(&d.host, "host", "", "server to speak to, by http; with --port")
	f.IntVar(&d.port, "port", 0, fmt.Sprintf("port of the server to speak to (default %d with --host)", defaultPort))
	f.StringVar(&d.ca, "tls-ca", "", "trust the certificate authorities in this PEM file for https")
	f.StringVar(&d.fingerprint, "tls-fingerprint", "", "trust the server whose certificate has this SHA-256 fingerprint, as bandsox serve --tls prints it")
}

// remote is the URL that was asked for, "" for the state directory's server.
func (d *address) remote() (string, error) {
	switch {
	case d.host == "" && d.port == 0:
		return d.url, nil
	case d.port < 0 || d.port > 65535:
		return "", usageError("--port %d: must be from 1 to 65535", d.port)
	}
	host, port := d.host, d.port
	if host == "" {
		host = "127.0.0.1"
	}
	if port == 0 {
		port = defaultPort
	}
	return "http://" + net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port)), nil
}

// tls is how a server is to prove who it is; nil: as everyone on the net.
func (d *address) tls() (*tls.Config, error) {
	if d.ca == "" && d.fingerprint == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.ca != "" {
		pem, err := os.ReadFile(d.ca)
		if err != nil {
			return nil, usageError("--tls-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageError("--tls-ca %s: there is no certificate in it", d.ca)
		}
	}
	if d.fingerprint != "" {
		want, err := hex.DecodeString(strings.ReplaceAll(strings.ToLower(d.fingerprint), ":", ""))
		if err != nil || len(want) != sha256.Size {
			return nil, usageError("--tls-fingerprint %q: must be 32 bytes in hex", d.fingerprint)
		}
		cfg.InsecureSkipVerify = true // the certificate is looked at below instead
		cfg.VerifyConnection = func(s tls.ConnectionState) error {
			if got := sha256.Sum256(s.PeerCertificates[0].Raw); string(got[:]) != string(want) {
				return fmt.Errorf("the server's certificate has another fingerprint: %X", got)
			}
			return nil
		}
	}
	return cfg, nil
}

// apiKey is the key of whoever types: BANDSOX_API_KEY, else the saved one.
func apiKey() (string, error) {
	if key := os.Getenv("BANDSOX_API_KEY"); key != "" {
		return key, nil
	}
	return auth.LoadKey()
}

// open finds the server. The caller closes what it gets.
func (a *app) open(ctx context.Context) (*client.Client, error) {
	if !a.quiet {
		a.bars = newProgress(os.Stderr)
	}
	url, err := a.address.remote()
	if err != nil {
		return nil, err
	}
	if url != "" {
		if err := a.shapesNothing(url); err != nil {
			return nil, err
		}
		return a.dial(ctx, url)
	}
	if _, err := a.config(); err != nil { // here, not in a log
		return nil, err
	}
	c, started, err := a.ensureServer(ctx)
	if err != nil {
		return nil, err
	}
	if started && !a.quiet {
		fmt.Fprintln(os.Stderr, "started a server in the background; it ends when nothing has run for 10 minutes")
	}
	a.local = true
	if err := a.shaped(c.Version()); err != nil && !started {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (a *app) dial(ctx context.Context, url string) (*client.Client, error) {
	key, err := apiKey()
	if err != nil {
		return nil, err
	}
	cfg, err := a.address.tls()
	if err != nil {
		return nil, err
	}
	a.local = strings.HasPrefix(url, "unix:")
	return client.Dial(ctx, url, client.Options{Key: key, TLS: cfg})
}

// with runs f with the server and lets it go whatever happens.
func (a *app) with(ctx context.Context, f func(*client.Client) error) error {
	c, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	err = f(c)
	a.bars.finish()
	return err
}

// shown is ctx for work whose length is shown.
func (a *app) shown(ctx context.Context) context.Context {
	if a.bars == nil {
		return ctx
	}
	return bandsox.WithProgress(ctx, a.bars.update)
}

// name is ref as the server's store has it.
func (a *app) name(ref string) string {
	kind, path, _ := strings.Cut(ref, ":")
	switch kind {
	case "docker-archive", "oci-archive", "oci", "dir":
		if abs, err := filepath.Abs(path); err == nil && a.local && path != "-" {
			return kind + ":" + abs
		}
	}
	return ref
}

// image is ref as the server finds it: what it names of our files is made
// absolute for one on this machine, and sent to any other.
func (a *app) image(ctx context.Context, c *client.Client, ref string) (string, error) {
	kind, path, ok := strings.Cut(ref, ":")
	archive := kind == "docker-archive" || kind == "oci-archive"
	switch {
	case !ok || !archive && kind != "oci" && kind != "dir":
		return ref, nil
	case archive && (path == "-" || strings.HasPrefix(path, "-:")):
		img, err := c.Load(a.shown(ctx), ref, os.Stdin)
		return img.Digest, err
	case a.local:
		return a.name(ref), nil
	case archive:
		path, tag, _ := strings.Cut(path, ":")
		f, err := os.Open(path)
		if err != nil {
			return "", usageError("%s: %w", ref, err)
		}
		defer f.Close()
		from := kind + ":-"
		if tag != "" {
			from += ":" + tag
		}
		img, err := c.Load(a.shown(ctx), from, f)
		return img.Digest, err
	}
	return "", &bandsox.Error{Code: bandsox.CodeInvalid, Op: "image", ID: ref, Err: fmt.Errorf("a directory of this machine can't be sent to a server elsewhere"),
		Hint: "pack it as an archive: skopeo copy " + ref + " oci-archive:image.tar"}
}
