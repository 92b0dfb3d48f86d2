package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

const (
	maxFrame  = maxJSONBody      // of a client: the first one may hold a program
	firstTime = time.Minute      // a client has for its first frame
	pingEvery = 30 * time.Second // so that proxies know that the socket lives
)

// socket is a WebSocket with a program on our side of it.
type socket struct {
	s    *Server
	conn *websocket.Conn
	// ctx ends with the socket, or with the server.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	binary bool // output goes in binary frames, whose first byte is its stream
	plain  bool // output is a terminal's, without any frame around it
	base64 bool // and that in base64
	told   bool // frames of JSON may stand beside the output
	mu     sync.Mutex
	buf    []byte
	cuts   texts
}

// socket makes a request a WebSocket. The caller ends it. The guard has looked
// at the request's origin.
func (s *Server) socket(w http.ResponseWriter, r *http.Request) (*socket, error) {
	if !auth.IsWebSocket(r) {
		return nil, &api.Error{Code: wire.Invalid, Status: http.StatusUpgradeRequired, Detail: api.Detail{Text: "this is a WebSocket"},
			Header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}}
	}
	conn, err := accept(w, r)
	if err != nil {
		return nil, err
	}
	k := &socket{s: s, conn: conn}
	k.ctx, k.cancel = context.WithCancelCause(context.WithoutCancel(r.Context()))
	conn.SetReadLimit(maxFrame)
	stop := context.AfterFunc(s.closing, func() {
		_ = conn.Close(websocket.StatusGoingAway, errClosing.Message)
		k.cancel(errClosing)
	})
	k.wg.Go(func() {
		defer stop()
		k.ping()
	})
	return k, nil
}

func accept(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	o := &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if p := auth.Subprotocol(r); p != "" {
		o.Subprotocols = []string{p}
	}
	conn, err := websocket.Accept(begun{w}, r, o)
	if err != nil {
		return nil, invalid("opening the WebSocket: %w", err)
	}
	return conn, nil
}

// refuseSocket closes the WebSocket of a caller who isn't known, as the
// reference does: a browser shows a page no more than that code. It reports
// whether that was the answer.
func refuseSocket(w http.ResponseWriter, r *http.Request, err error) bool {
	if wire.CodeOf(err) != wire.Unauthorized || !auth.IsWebSocket(r) || !strings.HasPrefix(r.URL.Path, "/api/vms/") {
		return false
	}
	if conn, err := accept(w, r); err == nil {
		_ = conn.Close(auth.CloseUnauthorized, "Unauthorized")
	}
	return true
}

// begun is an answer without the text that Accept writes beside its error.
type begun struct{ http.ResponseWriter }

func (b begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }
func (b begun) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		b.ResponseWriter.WriteHeader(status)
	}
}
func (b begun) Write(p []byte) (int, error) { return len(p), nil }

// ping keeps the socket busy. Nobody is cut off for not answering: a reader who
// is slow answers late.
func (k *socket) ping() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(k.ctx, pingEvery)
			_ = k.conn.Ping(ctx)
			cancel()
		}
	}
}

// end lets go of the socket.
func (k *socket) end() {
	k.cancel(nil)
	_ = k.conn.CloseNow()
	k.wg.Wait()
}

// frame sends a frame of JSON.
func (k *socket) frame(v any) error {
	return k.conn.Write(k.ctx, websocket.MessageText, api.JSON(v))
}

// put sends a piece of output. It waits for a slow reader, and with it the
// program does.
func (k *socket) put(stream byte, p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.binary && k.plain:
		return k.conn.Write(k.ctx, websocket.MessageBinary, p)
	case k.binary:
		k.buf = append(append(k.buf[:0], stream), p...)
		return k.conn.Write(k.ctx, websocket.MessageBinary, k.buf)
	case k.base64:
		return k.conn.Write(k.ctx, websocket.MessageText, base64.StdEncoding.AppendEncode(nil, p))
	}
	return k.text(stream, k.cuts.cut(stream, p))
}

func (k *socket) text(stream byte, p []byte) error {
	switch {
	case len(p) == 0:
		return nil
	case k.plain:
		return k.conn.Write(k.ctx, websocket.MessageText, []byte(text(p)))
	}
	return k.frame(api.Output{Type: streamNames[stream], Data: text(p)})
}

// rest sends what is held of torn characters: the output has ended.
func (k *socket) rest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for stream := byte(api.FrameStdout); stream <= api.FrameStderr; stream++ {
		_ = k.text(stream, k.cuts.rest(stream))
	}
}

// socketRoute has errors worded as those of other routes about a sandbox.
var socketRoute = route{path: "/api/vms/{id}"}

// finish says how the program ended, and closes the socket.
func (k *socket) finish(err error) {
	k.rest()
	exit, err := api.ExitOf(err)
	switch {
	case err != nil:
		_ = k.tell("error", err)
	case exit.TimedOut && !k.binary && !k.plain:
		_ = k.frame(api.ErrorFrame{Type: "error", Text: "Command timed out", Code: wire.Timeout})
	case k.told:
		_ = k.frame(api.ExitFrame{Type: "exit", Ended: exit})
	}
	_ = k.conn.Close(websocket.StatusNormalClosure, "")
}

// tell sends an error, where there is a way to.
func (k *socket) tell(kind string, err error) error {
	if !k.told {
		return nil
	}
	e := k.s.asStatus(err, &socketRoute)
	return k.frame(api.ErrorFrame{Type: kind, Text: e.Detail.String(), Code: e.Code, Hint: e.Hint, Op: e.Op, ID: e.ID})
}

// refuse says why nothing runs, and closes the socket.
func (k *socket) refuse(err error, reason string) {
	code := api.CloseFailed
	var of *bandsox.Error
	if errors.As(err, &of) && (of.Code == bandsox.CodeConflict || of.Code == bandsox.CodeNotFound && (of.Op == "get" || of.Op == "process")) {
		code, reason = api.CloseNotHere, ""
	}
	_ = k.tell("error", err)
	_ = k.conn.Close(websocket.StatusCode(code), shortened(reason+k.s.asStatus(err, &socketRoute).Detail.String()))
}

// shortened is a reason that fits into the frame that closes a socket.
func shortened(s string) string {
	const most = 123
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}

// target is the program that a client's frames are about.
type target struct {
	in     *input // nil: it takes none
	signal func(api.Signal) error
	kill   func() error
	resize func(bandsox.Size) error
}

// listen does what the client's frames say, until it leaves: the socket's
// context ends then.
func (k *socket) listen(p target) {
	k.wg.Go(func() {
		defer k.cancel(errLeft)
		for {
			kind, b, err := k.conn.Read(k.ctx)
			if err != nil {
				return
			}
			if kind == websocket.MessageText {
				err = k.control(p, b)
			} else {
				err = k.input(p, b)
			}
			if err != nil && k.tell("refused", err) != nil {
				return
			}
		}
	})
}

var errLeft = wire.Errorf(wire.Unavailable, "the client has left")

func (k *socket) input(p target, b []byte) error {
	switch {
	case k.plain:
		return p.in.put(b)
	case len(b) == 0 || b[0] != api.FrameStdin:
		return invalid("a binary frame begins with the byte %d", api.FrameStdin)
	}
	return p.in.put(b[1:])
}

// control does what a text frame says. What is none of ours is ignored.
func (k *socket) control(p target, b []byte) error {
	var f api.ClientFrame
	if err := json.Unmarshal(b, &f); err != nil {
		if wire.CodeOf(err) == wire.Invalid {
			return err
		}
		return nil
	}
	switch f.Type {
	case "input":
		data, err := base64.StdEncoding.DecodeString(f.Data)
		if err != nil {
			return invalid("input: data must be base64")
		}
		return p.in.put(data)
	case "close_stdin":
		return p.in.end()
	case "signal":
		return p.signal(f.Signal)
	case "kill":
		return p.kill()
	case "resize":
		size, err := api.TerminalSize(f.Cols, f.Rows)
		if err != nil {
			return err
		}
		return p.resize(size)
	}
	return nil
}

// socketDoc documents a WebSocket about one sandbox.
func socketDoc(op *huma.Operation, _ huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam())
	op.Responses = map[string]*huma.Response{"101": {Description: "The WebSocket is open"}}
}
