package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

const execStreamAbout = `The client's first frame says what to run: ` + "`" + `{"command": "…", "timeout": 600}` + "`" + `, with any of the fields of exec,
and ` + "`" + `tty: {cols, rows}` + "`" + `, ` + "`" + `stdin: true` + "`" + `, ` + "`" + `binary: true` + "`" + `, ` + "`" + `on_disconnect: "keep"` + "`" + `.
The server answers with frames ` + "`" + `{"type": "started" | "stdout" | "stderr" | "exit" | "error", …}` + "`" + ` and closes with 1000;
with 4004 if there is no such sandbox or it doesn't run, with 4000 if what was asked for can't be.

With binary, output comes in binary frames whose first byte is its stream, 1 stdout and 2 stderr, and a timeout is only what is given.
With stdin, the client sends input in binary frames whose first byte is 0, or as {"type": "input", "data": base64}; {"type": "stdin", "taken": n}
tells how much of it the program has taken, and who sends no more than 1 MiB beyond that is always listened to.
Further frames of the client: {"type": "close_stdin"}, {"type": "signal", "signal": 15}, {"type": "kill"}, {"type": "resize", "cols": n, "rows": n};
one that is of no use is answered with {"type": "refused"}. A client that leaves kills the program, unless on_disconnect is keep.`

// The reference's bounds of a timeout on exec-stream.
const (
	streamTimeout    = 600 * time.Second
	maxStreamTimeout = 3600 * time.Second
)

// execStream runs a program on a WebSocket.
func (s *Server) execStream(w http.ResponseWriter, r *http.Request) error {
	k, err := s.socket(w, r)
	if err != nil {
		return err
	}
	defer k.end()
	k.told = true
	sb, err := s.sandbox(r.Context(), r.PathValue("id"))
	if err != nil {
		k.refuse(err, "")
		return nil
	}
	start, timeout, err := k.first()
	if err != nil {
		k.refuse(err, "")
		return nil
	}
	k.binary = start.Binary
	if start.Python != nil {
		k.python(sb, start, timeout)
		return nil
	}
	cmd, err := command(sb, start.Program)
	if err != nil {
		k.refuse(invalid("command required"), "")
		return nil
	}
	cmd.Timeout = timeout
	if start.TTY != nil {
		size, err := api.TerminalSize(int(start.TTY.Cols), int(start.TTY.Rows))
		if err != nil {
			k.refuse(err, "")
			return nil
		}
		cmd.TTY = &size
	}
	k.run(cmd, start.Stdin, start.Leave == "keep", "started", "")
	return nil
}

// first reads the frame that says what to run.
func (k *socket) first() (start api.ExecStart, timeout time.Duration, err error) {
	ctx, cancel := context.WithTimeout(k.ctx, firstTime)
	defer cancel()
	kind, b, err := k.conn.Read(ctx)
	d := json.NewDecoder(bytes.NewReader(b))
	if err != nil || kind != websocket.MessageText || d.Decode(&start) != nil {
		return start, 0, invalid("invalid start")
	}
	if start.Leave != "" && start.Leave != "keep" && start.Leave != "kill" {
		return start, 0, invalid("on_disconnect %q: must be kill or keep", start.Leave)
	}
	var seconds *api.Seconds
	if len(start.Timeout) > 0 && json.Unmarshal(start.Timeout, &seconds) != nil {
		return start, 0, invalid("invalid timeout")
	}
	if start.Binary {
		timeout, err = seconds.Limit(0)
		return start, timeout, err
	}
	if seconds == nil {
		return start, streamTimeout, nil
	}
	return start, min(max(seconds.Duration(), time.Second), maxStreamTimeout), nil
}

// run runs a command with what the socket carries, until both have ended, or
// until the client leaves one that is to be kept.
func (k *socket) run(cmd *bandsox.Cmd, stdin, keep bool, hello, failed string) {
	ctx, put := k.ctx, k.put
	if keep {
		ctx, put = context.WithoutCancel(ctx), k.putWhileHere
	}
	var in *input
	if stdin {
		in = newInput(k.taken)
		cmd.Stdin = in
	}
	began := make(gate)
	cmd.Stdout, cmd.Stderr = began.writer(api.FrameStdout, put), began.writer(api.FrameStderr, put)
	if cmd.TTY != nil && stdin {
		cmd.OpenStdin = true
	}
	if err := cmd.Start(ctx); err != nil {
		k.refuse(err, failed)
		return
	}
	if hello != "" {
		_ = k.frame(api.Started{Type: hello, Process: cmd.ProcessID(), PID: cmd.PID()})
	}
	began.open()
	t := target{in: in, kill: cmd.Kill, resize: cmd.Resize, signal: func(sig api.Signal) error {
		n, err := sig.Number()
		if err != nil {
			return err
		}
		return cmd.Signal(n)
	}}
	k.listen(t)
	k.wait(keep, in, func() error { return cmd.Wait(context.WithoutCancel(ctx)) })
}

// wait waits for a program and says how it ended. Where it is to be kept, a
// client that leaves leaves it running.
func (k *socket) wait(keep bool, in *input, wait func() error) {
	ended := make(chan error, 1)
	go func() {
		err := wait()
		in.abandon()
		ended <- err
	}()
	select {
	case err := <-ended:
		k.finish(err)
	case <-k.ctx.Done():
		if !keep {
			<-ended
		}
	}
}

// putWhileHere is put until the client leaves. Then the program goes on, and
// what it writes is kept by its process alone.
func (k *socket) putWhileHere(stream byte, p []byte) error {
	if k.ctx.Err() == nil {
		_ = k.put(stream, p)
	}
	return nil
}

// taken tells the client how much of its input the program has.
func (k *socket) taken(total int64) {
	if k.binary && k.told {
		_ = k.frame(api.StdinFrame{Type: "stdin", Taken: total})
	}
}

// python runs Python code.
func (k *socket) python(sb *bandsox.Sandbox, start api.ExecStart, timeout time.Duration) {
	o := bandsox.PythonOptions{Args: start.Python.Args, Filename: start.Python.Filename, Packages: start.Python.Packages,
		Env: start.Env, Dir: start.Dir, User: start.User, Timeout: timeout}
	var in *input
	if start.Stdin {
		in = newInput(k.taken)
		o.Stdin = in
	}
	began := make(gate)
	began.open()
	o.Stdout, o.Stderr = began.writer(api.FrameStdout, k.put), began.writer(api.FrameStderr, k.put)
	none := func() error { return invalid("Python code takes no signals") }
	k.listen(target{in: in, kill: none, signal: func(api.Signal) error { return none() },
		resize: func(bandsox.Size) error { return invalid("Python code has no terminal") }})
	k.wait(false, in, func() error { return sb.Python(k.ctx, start.Python.Code, o) })
}
