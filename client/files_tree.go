package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// CopyTo copies what is in fsys, os.DirFS(dir) say, into the directory dir of
// the sandbox, as the library's does.
func (sb *Sandbox) CopyTo(ctx context.Context, fsys fs.FS, dir string, o bandsox.CopyOptions) error {
	tree := agent.FromFS(fsys, agent.PackOptions{Own: o.Own, Progress: o.Progress}).Tree(agent.Limits{})
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		defer tree.Close()
		err := tree.Tar(w, "")
		if err == nil || errors.Is(whatWas(err), bandsox.ErrConflict) && tree.Ended() {
			w.Close()
		} else {
			w.CloseWithError(err)
		}
		packed <- err
	}()
	_, err := sb.putTree(ctx, r, dir, o.Own)
	r.CloseWithError(io.ErrClosedPipe)
	if perr := <-packed; err == nil {
		err = perr // what changed while it was read
	}
	return failure("copy", dir, err)
}

// whatWas gives an error its class.
func whatWas(err error) error { return failure("copy", "", err) }

// Untar unpacks a tar archive into the directory dir of the sandbox, by the
// rules of CopyTo. It returns how many bytes of content it had.
func (sb *Sandbox) Untar(ctx context.Context, r io.Reader, dir string, o bandsox.CopyOptions) (int64, error) {
	if o.Progress != nil {
		r = io.TeeReader(r, &counter{tell: o.Progress})
	}
	n, err := sb.putTree(ctx, r, dir, o.Own)
	return n, failure("copy", dir, err)
}

// counter tells how much goes through.
type counter struct {
	n    int64
	tell func(done, total int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	c.tell(c.n, 0)
	return len(p), nil
}

func (sb *Sandbox) putTree(ctx context.Context, r io.Reader, dir string, own bool) (int64, error) {
	var done api.Written
	err := sb.upload(ctx, "copy", http.MethodPut, "tree", url.Values{"path": {dir}, "own": {strconv.FormatBool(own)}}, r,
		http.Header{"Content-Type": {"application/x-tar"}}, &done)
	return done.Bytes, err
}

// CopyFrom copies what is in the directory dir of the sandbox into the
// directory local of this host, which is made if it isn't there, by the rules
// of CopyTo. Neither the guest nor the server is trusted: nothing they say makes
// the host write, link or change a mode outside of local.
func (sb *Sandbox) CopyFrom(ctx context.Context, dir, local string, o bandsox.CopyOptions) error {
	body, err := sb.getTree(ctx, dir, o, "")
	if err != nil {
		return failure("copy", dir, err)
	}
	defer body.Close()
	tree := agent.FromTar(body, agent.PackOptions{Own: true}).Tree(agent.Limits{MaxEntries: o.MaxEntries, MaxBytes: o.MaxBytes})
	tree.Progress = o.Progress
	defer tree.Close()
	if err := tree.NeedDir(); err != nil {
		return failure("copy", dir, body.why(err))
	}
	made := os.Mkdir(local, 0o755)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return failure("copy", local, made)
	}
	root, err := os.OpenRoot(local)
	if err != nil {
		return failure("copy", local, err)
	}
	defer root.Close()
	err = tree.Extract(root, agent.ExtractOptions{Own: o.Own, Special: o.Special, Made: made == nil})
	return failure("copy", dir, body.why(err))
}

// Tar writes a file or directory of the sandbox to w as a tar archive.
func (sb *Sandbox) Tar(ctx context.Context, path string, w io.Writer, o bandsox.CopyOptions) error {
	body, err := sb.getTree(ctx, path, o, o.Name)
	if err != nil {
		return failure("copy", path, err)
	}
	defer body.Close()
	if o.Progress != nil {
		w = io.MultiWriter(w, &counter{tell: o.Progress})
	}
	_, err = io.Copy(w, body)
	return failure("copy", path, body.why(err))
}

// treeBody is an answer with an archive, after which the server says how it ended.
type treeBody struct {
	answerBody
	resp *http.Response
}

func (sb *Sandbox) getTree(ctx context.Context, path string, o bandsox.CopyOptions, name string) (*treeBody, error) {
	q := url.Values{"path": {path}, "follow": {strconv.FormatBool(o.Follow)}}
	if name != "" {
		q.Set("name", name)
	}
	if o.MaxBytes > 0 {
		q.Set("max_bytes", strconv.FormatInt(o.MaxBytes, 10))
	}
	if o.MaxEntries > 0 {
		q.Set("max_entries", strconv.FormatInt(o.MaxEntries, 10))
	}
	resp, err := sb.c.send(ctx, "copy", path, http.MethodGet, vmPath(sb.id, "tree"), q, nil, http.Header{"Te": {"trailers"}})
	if err != nil {
		return nil, err
	}
	return &treeBody{answerBody{ctx, resp.Body}, resp}, nil
}

// why is the server's word on how the archive ended, if it has any, else err,
// which came of reading it.
func (b *treeBody) why(err error) error {
	if _, cerr := io.Copy(io.Discard, io.LimitReader(b.r, 1<<20)); cerr == nil { // up to the trailer
		if said := b.resp.Trailer.Get(api.ErrorTrailer); said != "" {
			var body api.Error
			if jerr := api.ReadHeader(said, &body); jerr != nil {
				return wire.Errorf(wire.Unavailable, "reading the server's answer: %w", jerr)
			}
			return bodyError("copy", "", body)
		}
	}
	return err
}
