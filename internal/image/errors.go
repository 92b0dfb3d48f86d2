package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// about says what was being done to which image, and keeps the code and the
// hint of an error from deeper down.
func about(doing, ref string, err error) error {
	if err == nil {
		return nil
	}
	code := wire.CodeOf(err)
	if errors.Is(err, context.DeadlineExceeded) && code == wire.Internal {
		code = wire.Timeout
	}
	e := wire.Errorf(code, "%s image %q: %w", doing, ref, err)
	var inner *wire.Error
	if errors.As(err, &inner) {
		e.Hint = inner.Hint
	}
	return e
}

// registryError classifies what went wrong with a registry on host.
func registryError(ctx context.Context, host string, err error) error {
	var coded *wire.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &dns):
		return wire.Errorf(wire.Unavailable, "registry %s: its name can't be looked up: %w", host, err).
			WithHint("%s", offlineHint)
	case errors.As(err, &cert):
		return wire.Errorf(wire.Unavailable, "registry %s: its certificate is not trusted: %w", host, err).
			WithHint("name its authority's PEM file as a CA file, or the host as an insecure registry")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return wire.Errorf(wire.Unavailable, "registry %s broke off in the middle: %w", host, err).
			WithHint("try again; %s", offlineHint)
	}
	if e := statusError(host, err); e != nil {
		return e
	}
	return wire.Errorf(wire.Unavailable, "registry %s: %w", host, err).WithHint("%s", offlineHint)
}

const offlineHint = "without a registry, try bandsox/base, or docker-archive:FILE, oci-archive:FILE, oci:DIR, dir:DIR"

// statusError is for a registry that did answer, and said no.
func statusError(host string, err error) *wire.Error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return nil
	}
	unauthorized := te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden
	missing := te.StatusCode == http.StatusNotFound
	for _, d := range te.Errors {
		switch d.Code {
		case transport.UnauthorizedErrorCode, transport.DeniedErrorCode:
			unauthorized = true
		case transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, transport.BlobUnknownErrorCode:
			missing = true
		}
	}
	switch {
	case missing:
		return wire.Errorf(wire.NotFound, "registry %s has no such image: %w", host, err)
	case unauthorized:
		return wire.Errorf(wire.Unauthorized, "registry %s: no such image, or it is private: %w", host, err).
			WithHint("docker login %s", host)
	case te.StatusCode == http.StatusTooManyRequests:
		return wire.Errorf(wire.Unavailable, "registry %s: too many requests for now: %w", host, err).
			WithHint("docker login %s", host)
	}
	return wire.Errorf(wire.Unavailable, "registry %s: %w", host, err).WithHint("%s", offlineHint)
}

// fileError classifies an error of a file that the caller named.
func fileError(doing, path string, err error) error {
	var coded *wire.Error
	switch {
	case errors.As(err, &coded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return wire.Errorf(wire.NotFound, "%s %q: no such file or directory", doing, path)
	case errors.Is(err, fs.ErrPermission):
		return wire.Errorf(wire.Denied, "%s %q: %w", doing, path, err).
			WithHint("sudo chown -R $(id -u) %s", path)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return wire.Errorf(wire.Invalid, "%s %q: %w", doing, path, err)
	}
	return wire.Errorf(wire.Unavailable, "%s %q: %w", doing, path, err)
}

// scratchError classifies an error of a temporary file in dir.
func scratchError(dir string, err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return wire.Errorf(wire.Exhausted, "writing temporary files in %q: %w", dir, err).
				WithHint("df -h %s", dir)
		}
	}
	return wire.Errorf(wire.Unavailable, "writing temporary files in %q: %w", dir, err)
}

// inUnits writes a limit as people do, in the largest unit that it is a whole
// number of.
func inUnits(n int64) string {
	switch {
	case n > 0 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
