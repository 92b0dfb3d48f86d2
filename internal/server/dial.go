package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
)

// dialPing is how often an open connection is asked whether it still is.
const dialPing = 30 * time.Second

func dialDoc(op *huma.Operation, _ huma.Registry) {
	op.Parameters = append(op.Parameters, vmParam(), param("port", anInt, true, "Where the server listens in the sandbox"))
	op.Responses = map[string]*huma.Response{"101": {Description: "The WebSocket begins: the port is connected"}}
}

func (s *Server) dialVM(w http.ResponseWriter, r *http.Request) error {
	sb, err := s.m.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	port, err := portNumber(r.URL.Query().Get("port"))
	if err != nil {
		return err
	}
	if !auth.IsWebSocket(r) {
		return invalid("this is for WebSockets").WithHint("connect to ws://…/api/vms/%s/dial?port=%d; HTTP goes by /proxy/%s/%d/", sb.ID(), port, sb.ID(), port)
	}
	guest, err := sb.Dial(r.Context(), port)
	if errors.Is(err, syscall.ECONNREFUSED) {
		e := s.asStatus(err, nil)
		e.Status = http.StatusBadGateway
		return e
	}
	if err != nil {
		return err
	}
	defer guest.Close()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the guard has looked where it comes from
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil // it has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1) // frames pass through as they come
	ctx, cancel := context.WithCancel(r.Context())
	ended, left, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		_ = webToGuest(ctx, ws, guest, ended)
		guest.Close() // which ends guestToWeb
	}()
	go func() {
		defer close(over)
		keepOpen(ctx, ws)
	}()
	defer func() { cancel(); <-left; <-over }()
	defer context.AfterFunc(s.closing, func() { ws.Close(websocket.StatusGoingAway, "the server stops") })()

	if err := guestToWeb(ctx, ws, guest); err != nil {
		ws.Close(websocket.StatusInternalError, short(err))
		return nil
	}
	select {
	case <-ended:
		ws.Close(websocket.StatusNormalClosure, "")
	case <-left:
	}
	return nil
}

// keepOpen pings, so that a client that vanished is noticed.
func keepOpen(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(dialPing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ping, cancel := context.WithTimeout(ctx, dialPing)
		err := ws.Ping(ping)
		cancel()
		if err != nil {
			ws.CloseNow()
			return
		}
	}
}

// webToGuest sends the binary frames to the guest's server, and its end after
// the text frame that says that this was all. It reads on until the client
// leaves: somebody must, for pings to be answered.
func webToGuest(ctx context.Context, ws *websocket.Conn, guest io.Writer, ended chan struct{}) error {
	buf := relayBuffers{}.Get()
	defer relayBuffers{}.Put(buf)
	for over := false; ; {
		kind, r, err := ws.Reader(ctx)
		switch {
		case err != nil:
			return err
		case over:
			ws.Close(websocket.StatusPolicyViolation, "a frame after the end")
			return nil
		case kind == websocket.MessageText:
			over = true
			if err := readEnd(r); err != nil {
				ws.Close(websocket.StatusPolicyViolation, `the only text frame is {"type":"end"}`)
				return err
			}
			err = guest.(interface{ CloseWrite() error }).CloseWrite()
			close(ended)
		default:
			_, err = io.CopyBuffer(struct{ io.Writer }{guest}, r, buf)
		}
		if err != nil {
			return err
		}
	}
}

func readEnd(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, 1<<10))
	if err != nil {
		return err
	}
	var end api.DialEnd
	if err := json.Unmarshal(b, &end); err != nil || end.Type != "end" {
		return invalid("a text frame that is no end")
	}
	return nil
}

// guestToWeb sends what the guest's server says, as it comes.
func guestToWeb(ctx context.Context, ws *websocket.Conn, guest io.Reader) error {
	buf := relayBuffers{}.Get()
	defer relayBuffers{}.Put(buf)
	for {
		n, err := guest.Read(buf)
		if n > 0 {
			if err := ws.Write(ctx, websocket.MessageBinary, buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return ws.Write(ctx, websocket.MessageText, api.JSON(api.DialEnd{Type: "end"}))
		}
		if err != nil {
			return err
		}
	}
}

// short is an error as a WebSocket's close can hold it.
func short(err error) string {
	text := strconv.QuoteToASCII(err.Error())
	return text[1 : min(len(text), 121)-1]
}
