package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// FetchOptions bound a [Fetch]. The zero value is of use.
type FetchOptions struct {
	SHA256   string        // hex; "" = not checked
	MaxBytes int64         // 0 = 16 GiB
	Stall    time.Duration // give up an attempt after so long without a byte; 0 = 30 s
	Attempts int           // in a row that bring no byte; 0 = 4
	What     string        // what Progress is told; "" = the file's name
	Progress Progress
	Client   *http.Client // nil = one that honours the proxy variables
}

func (o FetchOptions) withDefaults(path string) (FetchOptions, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 30
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Attempts == 0 {
		o.Attempts = 4
	}
	if o.What == "" {
		o.What = filepath.Base(path)
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	sum, err := parseSHA256(o.SHA256)
	o.SHA256 = sum
	return o, err
}

// Fetch copies source to path: an http, https or file URL, or a plain path.
//
// The file appears under its name whole, checked and on the disk, or not at
// all. Until then it grows as path.part, with what is known of it in
// path.part.json; an interrupted download goes on from there when the server
// says that it still is the same file, and starts again when not. Two
// processes that fetch to one path take turns.
func Fetch(ctx context.Context, source, path string, o FetchOptions) error {
	o, err := o.withDefaults(path)
	if err != nil {
		return err
	}
	u, local, err := parseSource(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err, "fetching %q", shown(source))
	}
	if u == nil {
		return fail(copyLocal(ctx, local, path, o), "copying %q", local)
	}
	return fail(download(ctx, u, path, o), "downloading %q", shown(source))
}

// parseSource tells a URL to download (u) from a local path.
func parseSource(source string) (u *url.URL, local string, err error) {
	if source == "" {
		return nil, "", wire.Errorf(wire.Invalid, "fetching: no URL or path given")
	}
	scheme, _, isURL := strings.Cut(source, "://")
	if !isURL {
		return nil, source, nil
	}
	u, err = url.Parse(source)
	if err != nil {
		return nil, "", wire.Errorf(wire.Invalid, "reading the URL %q: not a valid URL", shown(source))
	}
	switch strings.ToLower(scheme) {
	case "http", "https":
		if u.Host == "" {
			return nil, "", wire.Errorf(wire.Invalid, "reading the URL %q: no host in it", shown(source))
		}
		return u, "", nil
	case "file":
		if (u.Host != "" && u.Host != "localhost") || u.Path == "" {
			return nil, "", wire.Errorf(wire.Invalid, "reading the URL %q: a file URL has three slashes and a path: file:///path", shown(source))
		}
		return nil, u.Path, nil
	}
	return nil, "", wire.Errorf(wire.Invalid, "reading the URL %q: only http, https and file URLs, or a path", shown(source))
}

// shown is source without what may be a secret: a password, a signed query.
func shown(source string) string {
	if !strings.Contains(source, "://") {
		return source
	}
	s, _, _ := strings.Cut(source, "?")
	u, err := url.Parse(s)
	if err != nil {
		scheme, _, _ := strings.Cut(s, "://")
		return scheme + "://…"
	}
	u.User = nil
	return u.String()
}

// parseSHA256 accepts the usual ways to write one.
func parseSHA256(s string) (string, error) {
	h := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(s), "sha256:"))
	if h == "" && s == "" || len(h) == 64 && strings.Trim(h, "0123456789abcdef") == "" {
		return h, nil
	}
	return "", wire.Errorf(wire.Invalid, "reading the sha256 %q: not 64 hex digits", s)
}

func wrongSum(got, want string) error {
	return wire.Errorf(wire.Invalid, "the sha256 is %s, not %s as asked for", got, want)
}

func tooBig(size, limit int64) error {
	return wire.Errorf(wire.Exhausted, "%d bytes, over the limit of %d", size, limit)
}

// copyLocal is Fetch from a file of this machine.
func copyLocal(ctx context.Context, from, path string, o FetchOptions) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return wire.Errorf(wire.Invalid, "not a regular file")
	}
	if st.Size() > o.MaxBytes {
		return tooBig(st.Size(), o.MaxBytes)
	}
	if dst, err := os.Stat(path); err == nil && os.SameFile(st, dst) {
		return checkFile(src, o.SHA256) // in place already
	}
	return writeAtomic(path, 0o644, func(f *os.File) error {
		m := newMeter(o, st.Size())
		if err := pump(ctx, f, src, m); err != nil {
			return err
		}
		return m.finish()
	})
}

// pump copies src into dst through m until its end.
func pump(ctx context.Context, dst io.Writer, src io.Reader, m *meter) error {
	buf := make([]byte, 128<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(buf)
		if n > 0 {
			if err := m.add(buf[:n]); err != nil {
				return err
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return writeError{err}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeError is a failure of our own disk: trying the server again won't help.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }
func (e writeError) Error() string { return fmt.Sprintf("writing: %v", e.error) }
