package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

const outputAbout = `Stdout and stderr together, in the order in which they were read. Bandsox-Offset is where the answer begins,
Bandsox-Lost how much of what was asked for is no longer kept. With Accept: text/event-stream it answers with events: stdout and stderr,
whose ids are the offset of the next byte, so that Last-Event-ID goes on without loss; then exit.`

func outputDoc(op *huma.Operation, r huma.Registry) {
	processDoc(op, r)
	op.Parameters = append(op.Parameters, offsetParam(), param("follow", aBool, false, "Go on until the process ends; events always do"))
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: bytesSchema}, "text/event-stream": {Schema: aString}}}}
}

func (s *Server) processOutput(w http.ResponseWriter, r *http.Request) error {
	q := query{r.URL.Query(), nil}
	offset, follow := q.int("offset", 0), q.bool("follow")
	if q.err != nil {
		return q.err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	p, err := s.process(ctx, ProcessRef{VMRef{r.PathValue("id")}, r.PathValue("process")})
	if err != nil {
		return err
	}
	if wantsEvents(r) {
		if last := r.Header.Get("Last-Event-ID"); last != "" {
			if offset, err = strconv.ParseInt(last, 10, 64); err != nil || offset < 0 {
				return invalid("Last-Event-ID %q: must be an id of this stream", last)
			}
		}
		return s.outputEvents(ctx, w, p, offset)
	}
	return outputBytes(ctx, w, p, offset, follow)
}

// outputBytes answers with the bytes that there are, or with all there will be.
func outputBytes(ctx context.Context, w http.ResponseWriter, p *bandsox.Process, offset int64, follow bool) error {
	info, err := p.Info(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	flow := http.NewResponseController(w)
	var left int64 // where it doesn't follow
	put := func(_ byte, b []byte) error {
		if !follow {
			b = b[:min(int64(len(b)), left)]
			left -= int64(len(b))
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if follow {
			return flow.Flush()
		}
		if left == 0 {
			cancel(bandsox.ErrDetached)
		}
		return nil
	}
	began := make(gate)
	out := began.writer(api.FrameStdout, put)
	a, err := p.Attach(ctx, bandsox.AttachOptions{Offset: offset, Stdout: out, Stderr: out})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Bandsox-Offset", strconv.FormatInt(a.Start(), 10))
	h.Set("Bandsox-Lost", strconv.FormatInt(a.Lost(), 10))
	if left = max(info.Output-a.Start(), 0); !follow {
		h.Set("Content-Length", strconv.FormatInt(left, 10))
	}
	w.WriteHeader(http.StatusOK)
	_ = flow.Flush()
	if !follow && left == 0 {
		cancel(bandsox.ErrDetached)
	}
	began.open()
	err = a.Wait(context.WithoutCancel(ctx))
	if !follow && left == 0 {
		return nil
	}
	_, err = api.ExitOf(err)
	return err
}

// outputEvents answers with events until the process ends.
func (s *Server) outputEvents(ctx context.Context, w http.ResponseWriter, p *bandsox.Process, offset int64) error {
	var stream *events
	var cuts texts
	var at int64 // the offset of what comes next
	send := func(kind byte, b []byte) error {
		if len(b) == 0 {
			return nil
		}
		at += int64(len(b))
		return stream.send(strconv.FormatInt(at, 10), streamNames[kind], piece(b))
	}
	put := func(kind byte, b []byte) error {
		// The other stream's torn character goes first: ids are offsets, in order.
		other := byte(api.FrameStdout + api.FrameStderr - kind)
		if err := send(other, cuts.rest(other)); err != nil {
			return err
		}
		return send(kind, cuts.cut(kind, b))
	}
	began := make(gate)
	a, err := p.Attach(ctx, bandsox.AttachOptions{Offset: offset,
		Stdout: began.writer(api.FrameStdout, put), Stderr: began.writer(api.FrameStderr, put)})
	if err != nil {
		return err
	}
	at = a.Start()
	w.Header().Set("Bandsox-Offset", strconv.FormatInt(at, 10))
	w.Header().Set("Bandsox-Lost", strconv.FormatInt(a.Lost(), 10))
	stream = newEvents(w)
	defer stream.close()
	began.open()
	err = a.Wait(context.WithoutCancel(ctx))
	for kind := byte(api.FrameStdout); kind <= api.FrameStderr; kind++ {
		_ = send(kind, cuts.rest(kind))
	}
	return s.sendEnd(stream, err)
}
