package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// link is what carries a program: its output and end come, its end can be asked for.
type link interface {
	next(out func(stream byte, b []byte) error) (frame, error)
	kill(ctx context.Context) error
	broke(err error) error
	end()
}

// answer is a program whose output is a request's answer. The connection serves
// further requests when it has been read.
type answer struct {
	sb     *Sandbox
	op     string
	body   io.ReadCloser
	r      *bufio.Reader
	cancel context.CancelFunc
	id     string // of the process
}

// ask runs a program that has no input and no terminal.
func (sb *Sandbox) ask(ctx context.Context, op string, in api.Exec) (*answer, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	resp, err := sb.c.send(life, op, sb.id, http.MethodPost, vmPath(sb.id, "exec"), nil, bytes.NewReader(api.JSON(in)),
		http.Header{"Accept": {api.FramesType}, "Content-Type": {"application/json"}})
	if err == nil && resp.Header.Get("Content-Type") != api.FramesType {
		resp.Body.Close()
		err = wire.Errorf(wire.Unavailable, "the server doesn't answer in frames: it is older than this client")
	}
	if !stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return nil, failure(op, sb.id, ctxOr(ctx, err))
	}
	return &answer{sb: sb, op: op, body: resp.Body, r: bufio.NewReader(resp.Body), cancel: cancel}, nil
}

// longestText is the longest frame of JSON that is taken.
const longestText = 1 << 20

// next reads frames until one that its caller must see.
func (a *answer) next(out func(stream byte, b []byte) error) (frame, error) {
	var buf []byte
	for {
		head, err := a.r.Peek(api.FrameHead)
		if err != nil {
			return frame{}, a.broke(err)
		}
		kind, n := head[0], int(binary.BigEndian.Uint32(head[1:]))
		_, _ = a.r.Discard(api.FrameHead)
		if kind != api.FrameJSON {
			if buf, err = a.output(kind, n, buf, out); err != nil {
				return frame{}, err
			}
			continue
		}
		if n == 0 {
			continue
		}
		if n > longestText {
			return frame{}, a.broke(wire.Errorf(wire.Unavailable, "a frame of %d bytes", n))
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(a.r, text); err != nil {
			return frame{}, a.broke(err)
		}
		var f frame
		if err := json.Unmarshal(text, &f); err != nil {
			return frame{}, a.broke(err)
		}
		switch f.Type {
		case "error":
			return f, f.failure(a.op, a.sb.id)
		case "started":
			a.id = f.Process
			return f, nil
		case "exit":
			_, _ = a.r.Peek(1) // the answer's end, so that the connection is used again
			return f, nil
		}
	}
}

// output copies a frame's n bytes of output by way of buf, which it returns.
func (a *answer) output(stream byte, n int, buf []byte, out func(byte, []byte) error) ([]byte, error) {
	if most := min(n, 64<<10); len(buf) < most {
		buf = make([]byte, most)
	}
	for n > 0 {
		k, err := a.r.Read(buf[:min(n, len(buf))])
		if k > 0 {
			n -= k
			if err := out(stream, buf[:k]); err != nil {
				return buf, err
			}
		} else if err != nil {
			return buf, a.broke(err)
		}
	}
	return buf, nil
}

// kill asks for the program's end beside the answer, which then comes to its own.
func (a *answer) kill(ctx context.Context) error {
	return (&Process{sb: a.sb, id: a.id}).Kill(ctx)
}

// broke is the error of an answer that ended before the program did.
func (a *answer) broke(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return failure(a.op, a.sb.id, wire.Errorf(wire.Unavailable, "the connection to the program broke: %w", err))
}

// end lets go of the answer: a program that still runs is killed.
func (a *answer) end() {
	_ = a.body.Close()
	a.cancel()
}
