package server

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

const maxLinger = 24 * 60 * 60 // seconds

const terminalAbout = `The server sends what the terminal shows as text frames, or in another encoding. The client sends
{"type": "input", "data": base64} and {"type": "resize", "cols": n, "rows": n}; what is no JSON is ignored, and a binary frame is input.
The program is killed when the socket closes, unless keep is given: then process and offset, as hello tells them, attach to it again,
and nothing of its output is lost. Several may be attached at once. The socket is closed with 1000 when the program ends, with 4004 if there is
no such sandbox or it doesn't run, with 4000 if nothing could be started. With hello or encoding=binary, {"type": "exit", "exit_code": n} is the last frame.`

func terminalDoc(op *huma.Operation, r huma.Registry) {
	socketDoc(op, r)
	op.Parameters = append(op.Parameters,
		param("cols", anInt, false, "Default: 80"), param("rows", anInt, false, "Default: 24"),
		param("encoding", &huma.Schema{Type: huma.TypeString, Enum: []any{"text", "base64", "binary"}}, false, "Of output; default: text, UTF-8 with replacements"),
		param("command", aString, false, "Run by the guest's /bin/sh, in place of a shell"),
		param("user", aString, false, "As in exec"), param("cwd", aString, false, "As in exec"),
		param("hello", aBool, false, `Begin with {"type": "hello", "process": id, "offset": n, "lost": n}`),
		param("keep", aBool, false, "Leave the program running when the socket closes"),
		param("linger", anInt, false, "With keep: seconds, after which a shell that nobody is attached to is hung up, unless it waits for a job; default: never"),
		param("process", aString, false, "Attach to this process instead; leaving leaves it running"),
		param("offset", anInt, false, "Where in its output to begin: 0 is the first byte that is kept, a negative one counts from the end"))
}

// terminal runs a shell on a terminal, or attaches to one that runs.
func (s *Server) terminal(w http.ResponseWriter, r *http.Request) error {
	q := query{r.URL.Query(), nil}
	cols, rows := q.int("cols", 80), q.int("rows", 24)
	hello, keep, offset, linger := q.bool("hello"), q.bool("keep"), q.int("offset", 0), q.int("linger", 0)
	encoding := q.oneOf("encoding", "text", "base64", "binary")
	if q.err == nil && (linger < 0 || linger > maxLinger || linger > 0 && !keep) {
		q.err = invalid("linger=%d: with keep, from 0 to %d", linger, maxLinger)
	}
	if q.err != nil {
		return q.err
	}
	size, err := api.TerminalSize(int(cols), int(rows))
	if err != nil {
		return err
	}
	k, err := s.socket(w, r)
	if err != nil {
		return err
	}
	defer k.end()
	k.plain, k.binary, k.base64 = true, encoding == "binary", encoding == "base64"
	k.told = hello || k.binary
	sb, err := s.sandbox(r.Context(), r.PathValue("id"))
	if err != nil {
		k.refuse(err, "")
		return nil
	}
	greeting := ""
	if hello {
		greeting = "hello"
	}
	const failed = "Failed to start session: "
	if ref := q.Get("process"); ref != "" {
		k.attach(sb, ref, bandsox.AttachOptions{Offset: offset}, true, &size, greeting, failed)
		return nil
	}
	cmd := sb.Command("/bin/sh")
	if c := q.Get("command"); c != "" {
		cmd = sb.Shell(c)
	}
	cmd.TTY, cmd.User, cmd.Dir = &size, q.Get("user"), q.Get("cwd")
	if linger > 0 { // by itself from the start: our own view of it would be one that never leaves
		cmd.Detach, cmd.OpenStdin, cmd.Linger = true, true, time.Duration(linger)*time.Second
		if err := cmd.Start(k.ctx); err != nil {
			k.refuse(err, failed)
			return nil
		}
		k.attach(sb, cmd.ProcessID(), bandsox.AttachOptions{}, true, nil, greeting, failed)
		return nil
	}
	k.run(cmd, true, keep, greeting, failed)
	return nil
}

// attach joins a process until it ends or the client leaves.
func (k *socket) attach(sb *bandsox.Sandbox, ref string, o bandsox.AttachOptions, stdin bool, size *bandsox.Size, hello, failed string) {
	var in *input
	if stdin {
		in = newInput(k.taken)
		o.Stdin = in
	}
	began := make(gate)
	o.Stdout, o.Stderr = began.writer(api.FrameStdout, k.put), began.writer(api.FrameStderr, k.put)
	p, err := sb.Process(k.ctx, ref)
	var a *bandsox.Attachment
	if err == nil {
		a, err = p.Attach(k.ctx, o)
	}
	if err != nil {
		k.refuse(err, failed)
		return
	}
	if hello != "" {
		_ = k.frame(api.Started{Type: hello, Process: p.ID(), Offset: a.Start(), Lost: a.Lost()})
	}
	if size != nil {
		_ = a.Resize(*size) // of one that has ended it's of no use
	}
	began.open()
	k.listen(target{in: in, resize: a.Resize, kill: func() error { return p.Kill(k.ctx) }, signal: func(sig api.Signal) error {
		n, err := sig.Number()
		if err != nil {
			return err
		}
		return a.Signal(n)
	}})
	k.wait(false, in, func() error {
		err := a.Wait(k.ctx)
		if k.ctx.Err() != nil {
			_ = a.Detach() // before its input ends, which would be the process's
		}
		return err
	})
}

// query reads the parameters of a raw route. The first that is wrong is its
// error.
type query struct {
	url.Values
	err error
}

func (q *query) int(name string, otherwise int64) int64 {
	s := q.Get(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && q.err == nil {
		q.err = invalid("%s=%s: must be a whole number", name, s)
	}
	return n
}

func (q *query) bool(name string) bool {
	s := q.Get(name)
	if s == "" {
		return false
	}
	b, err := strconv.ParseBool(s)
	if err != nil && q.err == nil {
		q.err = invalid("%s=%s: must be true or false", name, s)
	}
	return b
}

// oneOf is a parameter that is one of some words, the first if it isn't given.
func (q *query) oneOf(name string, words ...string) string {
	s := q.Get(name)
	if s == "" {
		return words[0]
	}
	for _, w := range words {
		if s == w {
			return s
		}
	}
	if q.err == nil {
		q.err = invalid("%s=%s: must be one of %v", name, s, words)
	}
	return s
}
