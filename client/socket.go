package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/coder/websocket"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/wire"
)

// socket is a WebSocket with a program on the server's side of it.
type socket struct {
	conn   *websocket.Conn
	op, id string

	mu      sync.Mutex
	window  *sync.Cond
	sent    int64 // of the program's input
	taken   int64 // of that, by the program
	done    bool  // nothing more is sent
	writing sync.Mutex
	buf     []byte // by whoever writes
}

// maxFrame is the largest frame of a server that is taken.
const maxFrame = 8 << 20

// open opens a WebSocket. ctx is for that alone.
func (sb *Sandbox) open(ctx context.Context, op, path string, query url.Values) (*socket, error) {
	h := http.Header{}
	sb.c.sign(h)
	conn, resp, err := websocket.Dial(ctx, sb.c.url(path, query), &websocket.DialOptions{HTTPClient: sb.c.http, HTTPHeader: h,
		CompressionMode: websocket.CompressionDisabled})
	switch {
	case err == nil:
	case resp != nil && resp.StatusCode >= 300:
		return nil, answerError(op, sb.id, resp)
	default:
		return nil, failure(op, sb.id, ctxOr(ctx, sb.c.unreachable(err)))
	}
	conn.SetReadLimit(maxFrame)
	k := &socket{conn: conn, op: op, id: sb.id}
	k.window = sync.NewCond(&k.mu)
	return k, nil
}

// send sends a frame of JSON.
func (k *socket) send(ctx context.Context, v any) error {
	return k.conn.Write(ctx, websocket.MessageText, api.JSON(v))
}

// write sends input, as the program takes it.
func (k *socket) write(b []byte) (n int, err error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	for len(b) > 0 {
		room := k.room(len(b))
		if room == 0 {
			return n, wire.Errorf(wire.Conflict, "writing to the process: it has ended, or nobody listens any more")
		}
		k.buf = append(append(k.buf[:0], api.FrameStdin), b[:room]...)
		if err := k.conn.Write(context.Background(), websocket.MessageBinary, k.buf); err != nil {
			return n, wire.Errorf(wire.Unavailable, "writing to the process: %w", err)
		}
		n, b = n+room, b[room:]
	}
	return n, nil
}

// inputPiece is how much of a program's input is in one frame at most.
const inputPiece = 64 << 10

// room waits until some of n bytes can be sent, and says how many. 0: none ever.
func (k *socket) room(n int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	for !k.done && k.sent-k.taken >= api.StdinWindow {
		k.window.Wait()
	}
	if k.done {
		return 0
	}
	n = min(n, inputPiece, int(api.StdinWindow-(k.sent-k.taken)))
	k.sent += int64(n)
	return n
}

// closeStdin ends the program's input.
func (k *socket) closeStdin() error {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	done := k.done
	k.mu.Unlock()
	if done {
		return nil
	}
	return k.send(context.Background(), api.ClientFrame{Type: "close_stdin"})
}

// feed sends what r has, and its end.
func (k *socket) feed(r io.Reader) {
	_, _ = io.Copy(writerFunc(k.write), r)
	_ = k.closeStdin()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// end lets go of the socket.
func (k *socket) end() {
	k.mu.Lock()
	k.done = true
	k.window.Broadcast()
	k.mu.Unlock()
	_ = k.conn.CloseNow()
}

// frame is any text frame of a server.
type frame struct {
	Type string `json:"type"`
	api.Started
	api.Ended
	Taken int64     `json:"taken"`
	Text  string    `json:"error"`
	Code  wire.Code `json:"code"`
	Hint  string    `json:"hint"`
	Op    string    `json:"op"`
	ID    string    `json:"id"`
}

// failure is the error that a frame tells of.
func (f frame) failure(op, id string) error {
	return failure(op, id, bodyError(op, id, api.Error{Detail: api.Detail{Text: f.Text}, Code: f.Code, Hint: f.Hint, Op: f.Op, ID: f.ID}))
}

// kill asks for the program's end.
func (k *socket) kill(ctx context.Context) error { return k.send(ctx, api.ClientFrame{Type: "kill"}) }

// next reads frames until one that its caller must see. It writes output to out
// by its stream. The error of a socket that broke, or closed without a last
// word, is one.
func (k *socket) next(out func(stream byte, b []byte) error) (frame, error) {
	buf := make([]byte, 64<<10)
	for {
		kind, r, err := k.conn.Reader(context.Background())
		if err != nil {
			return frame{}, k.broke(err)
		}
		if kind == websocket.MessageBinary {
			if err := k.output(r, buf, out); err != nil {
				return frame{}, err
			}
			continue
		}
		var f frame
		if err := json.NewDecoder(r).Decode(&f); err != nil {
			return frame{}, k.broke(err)
		}
		switch f.Type {
		case "stdin":
			k.mu.Lock()
			k.taken = f.Taken
			k.window.Broadcast()
			k.mu.Unlock()
		case "error":
			return f, f.failure(k.op, k.id)
		case "started", "attached", "exit":
			return f, nil
		}
	}
}

// output copies one frame of output.
func (k *socket) output(r io.Reader, buf []byte, out func(byte, []byte) error) error {
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return k.broke(err)
	}
	stream := buf[0]
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := out(stream, buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return k.broke(err)
		}
	}
}

// broke is the error of a socket that ended before the program did.
func (k *socket) broke(err error) error {
	code := wire.Unavailable
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		switch closed.Code {
		case 4001:
			code = wire.Unauthorized
		case websocket.StatusMessageTooBig:
			code = wire.Invalid
		}
		if closed.Reason != "" {
			err = errors.New(closed.Reason)
		}
	}
	return failure(k.op, k.id, wire.Errorf(code, "the connection to the program broke: %w", err))
}

// writers are where a program's output goes.
func writers(stdout, stderr io.Writer) func(byte, []byte) error {
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	return func(stream byte, b []byte) error {
		w := stdout
		if stream == api.FrameStderr {
			w = stderr
		}
		_, err := w.Write(b)
		return err
	}
}

func invalid(op, id, format string, args ...any) error {
	return failure(op, id, wire.Errorf(wire.Invalid, format, args...))
}
