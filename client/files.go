package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/transfer"
	"github.com/bandsox/bandsox/internal/wire"
)

// side is the sandbox's files, as the library's code for reading and copying
// takes them.
func (sb *Sandbox) side() *transfer.Side {
	return &transfer.Side{Remote: remote{sb}, ID: sb.id, Fail: failure}
}

// remote brings files by HTTP.
type remote struct{ sb *Sandbox }

// Read asks for a range with the headers that any client could send.
func (r remote) Read(ctx context.Context, q wire.ReadRequest) (wire.Stat, io.ReadCloser, error) {
	var st wire.Stat
	header := http.Header{}
	switch {
	case q.Offset < 0 || q.Length < 0:
		return st, nil, wire.Errorf(wire.Invalid, "reading %q: a negative offset or length", q.Path)
	case q.Length > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", q.Offset, q.Offset+q.Length-1))
	case q.Offset > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-", q.Offset))
	}
	resp, err := r.sb.c.exchange(ctx, "read", r.sb.id, http.MethodGet, vmPath(r.sb.id, "file"), url.Values{"path": {q.Path}}, nil, header)
	if err != nil {
		return st, nil, err
	}
	told := api.ReadHeader(resp.Header.Get(api.StatHeader), &st)
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && told == nil: // there is nothing there
		resp.Body.Close()
		return st, http.NoBody, nil
	case resp.StatusCode >= 300:
		defer resp.Body.Close()
		return st, nil, answerError("read", q.Path, resp)
	case told != nil:
		resp.Body.Close()
		return st, nil, wire.Errorf(wire.Unavailable, "the server's answer is not that of a BandSox server: %w", told)
	case len(header) > 0 && resp.StatusCode != http.StatusPartialContent: // of no size that it knows
		if _, err := io.CopyN(io.Discard, resp.Body, q.Offset); err != nil && err != io.EOF {
			resp.Body.Close()
			return st, nil, ctxOr(ctx, err)
		}
		if q.Length > 0 {
			return st, cut{io.LimitReader(resp.Body, q.Length), resp.Body}, nil
		}
	}
	return st, answerBody{ctx, resp.Body}, nil
}

type cut struct {
	io.Reader
	io.Closer
}

// answerBody is an answer's body, whose end is the end only if all has come.
type answerBody struct {
	ctx context.Context
	r   io.ReadCloser
}

func (b answerBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = ctxOr(b.ctx, wire.Errorf(wire.Unavailable, "the server's answer broke off: %w", err))
	}
	return n, err
}

func (b answerBody) Close() error { return b.r.Close() }

// Write sends src as the body of a request.
func (r remote) Write(ctx context.Context, w wire.WriteRequest, src io.Reader) (int64, error) {
	return r.put(ctx, w, src, nil)
}

func (r remote) put(ctx context.Context, w wire.WriteRequest, src io.Reader, more url.Values) (int64, error) {
	q := url.Values{"path": {w.Path}}
	for k, v := range more {
		q[k] = v
	}
	if w.Mode != 0 {
		q.Set("mode", strconv.FormatUint(uint64(w.Mode), 8))
	}
	if w.User != "" {
		q.Set("owner", w.User)
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if w.New {
		header.Set("If-None-Match", "*")
	}
	method := http.MethodPut
	if w.Append {
		method = http.MethodPatch
	}
	var done api.Written
	err := r.sb.upload(ctx, "write", method, "file", q, src, header, &done)
	return done.Bytes, err
}

// upload sends a body that may fail, or be refused before its end.
func (sb *Sandbox) upload(ctx context.Context, op, method, route string, q url.Values, src io.Reader, header http.Header, done *api.Written) error {
	body := &source{r: src}
	var content io.Reader = body
	if b, ok := src.(*bytes.Reader); ok { // whose length is known, and which can be sent again
		content = b
	}
	resp, err := sb.c.send(ctx, op, sb.id, method, vmPath(sb.id, route), q, content, header)
	if failed := body.failed(); failed != nil && ctx.Err() == nil {
		if err == nil {
			resp.Body.Close()
		}
		return failed
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(done); err != nil {
		return ctxOr(ctx, wire.Errorf(wire.Unavailable, "reading the server's answer: %w", err))
	}
	return nil
}

// Resume asks how much the guest has, and sends the rest.
func (r remote) Resume(ctx context.Context, w wire.WriteRequest, open func(have int64) (io.Reader, error)) (int64, error) {
	var at api.Offset
	if err := r.sb.call(ctx, "write", http.MethodPost, "files/partial", nil, api.Partial{Path: wire.Text(w.Path), Key: w.Partial}, &at); err != nil {
		return 0, err
	}
	src, err := open(at.Offset)
	if err != nil {
		return 0, err
	}
	return r.put(ctx, w, src, url.Values{"partial": {w.Partial}, "offset": {strconv.FormatInt(at.Offset, 10)}})
}

// Stat describes a file; a symbolic link itself, not what it leads to.
func (sb *Sandbox) Stat(ctx context.Context, path string) (bandsox.Stat, error) {
	var st bandsox.Stat
	err := sb.call(ctx, "stat", http.MethodGet, "stat", url.Values{"path": {path}}, nil, &st)
	return st, err
}

// Open opens a regular file of the sandbox for reading. ctx is for all of the
// reading; close the file.
func (sb *Sandbox) Open(ctx context.Context, path string) (*bandsox.File, error) {
	return sb.side().Open(ctx, path)
}

// ReadFile returns the whole of a file.
func (sb *Sandbox) ReadFile(ctx context.Context, path string) ([]byte, error) {
	f, err := sb.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReadRange returns length bytes of a file from offset on, or as many as there
// are; with length 0, all there are.
func (sb *Sandbox) ReadRange(ctx context.Context, path string, offset, length int64) ([]byte, error) {
	_, r, err := remote{sb}.Read(ctx, wire.ReadRequest{Path: path, Offset: offset, Length: length})
	if err != nil {
		return nil, failure("read", path, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, failure("read", path, err)
}

// Sum is the SHA-256 of a file, in hex. The server computes it.
func (sb *Sandbox) Sum(ctx context.Context, path string) (string, error) {
	var sum api.Sum
	err := sb.call(ctx, "read", http.MethodGet, "sum", url.Values{"path": {path}}, nil, &sum)
	return sum.SHA256, err
}

// WriteFile replaces a file, or makes it with its parents. Readers in the
// guest see the old content or the new, never a part. A perm of 0 is 0644, or
// what the file had.
func (sb *Sandbox) WriteFile(ctx context.Context, path string, data []byte, perm fs.FileMode) error {
	_, err := sb.Write(ctx, path, bytes.NewReader(data), bandsox.WriteOptions{Perm: perm})
	return err
}

// WriteFrom is WriteFile with the content of r. When r fails the file is as it was.
func (sb *Sandbox) WriteFrom(ctx context.Context, path string, r io.Reader, perm fs.FileMode) (int64, error) {
	return sb.Write(ctx, path, r, bandsox.WriteOptions{Perm: perm})
}

// AppendFile adds data to the end of a file, or makes it with its parents.
func (sb *Sandbox) AppendFile(ctx context.Context, path string, data []byte) error {
	_, err := sb.Write(ctx, path, bytes.NewReader(data), bandsox.WriteOptions{Append: true})
	return err
}

// Write is WriteFrom with options. It returns the length of what was written:
// with Partial, the file's.
func (sb *Sandbox) Write(ctx context.Context, path string, r io.Reader, o bandsox.WriteOptions) (int64, error) {
	w := wire.WriteRequest{Path: path, Mode: transfer.ModeBits(o.Perm), User: o.Owner, Append: o.Append, New: o.New, Partial: o.Partial, Parents: true}
	if o.Partial == "" {
		n, err := remote{sb}.Write(ctx, w, r)
		return n, failure("write", path, err)
	}
	seeker, ok := r.(io.Seeker)
	if !ok || o.Append {
		return 0, failure("write", path, wire.Errorf(wire.Invalid, "a part of a file needs a reader that can seek, and replaces the file"))
	}
	n, err := remote{sb}.Resume(ctx, w, func(have int64) (io.Reader, error) {
		_, err := seeker.Seek(have, io.SeekStart)
		return r, err
	})
	return n, failure("write", path, err)
}

// Create replaces a file by what is written until Close, or makes it with its
// parents. ctx is for all of the writing. Without Close nothing changes.
func (sb *Sandbox) Create(ctx context.Context, path string) (*bandsox.FileWriter, error) {
	r, w := io.Pipe()
	p := &pipeWriter{PipeWriter: w, done: make(chan error, 1)}
	go func() {
		_, err := remote{sb}.Write(ctx, wire.WriteRequest{Path: path}, r)
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // for who writes on
		p.done <- err
	}()
	return sb.side().Writer(path, p), nil
}

// pipeWriter is the body of a request that comes by and by.
type pipeWriter struct {
	*io.PipeWriter
	done  chan error
	ended bool
}

func (p *pipeWriter) Write(b []byte) (int, error) {
	if p.ended {
		return 0, io.ErrClosedPipe
	}
	return p.PipeWriter.Write(b)
}

// Close returns when the server has said that the file is in its place.
func (p *pipeWriter) Close() error {
	if p.ended {
		return io.ErrClosedPipe
	}
	p.ended = true
	_ = p.PipeWriter.Close()
	return <-p.done
}

func (p *pipeWriter) Abort() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.CloseWithError(wire.Errorf(wire.Unavailable, "the writer gave up"))
	<-p.done
}

// Upload copies a file of this host to path in the sandbox, where parents are
// made. The file there is replaced at once, or stays as it was.
func (sb *Sandbox) Upload(ctx context.Context, local, path string, o bandsox.TransferOptions) (bandsox.Transfer, error) {
	return sb.side().Upload(ctx, local, path, o)
}

// Download copies a file of the sandbox to a path of this host, whose
// directory must exist. The file there is replaced at once, or stays as it was.
func (sb *Sandbox) Download(ctx context.Context, path, local string, o bandsox.TransferOptions) (bandsox.Transfer, error) {
	return sb.side().Download(ctx, path, local, o)
}
