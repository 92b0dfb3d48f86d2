package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/api"
)

const pythonTimeout = 60 * time.Second // where a caller gives none

func (s *Server) execPython(ctx context.Context, in *struct {
	VMRef
	Body api.ExecPython
}) (*answer[api.ExecutedPython], error) {
	sb, err := s.sandbox(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	b := in.Body
	o := bandsox.PythonOptions{Args: b.Args, Filename: b.Filename, Env: b.Env, Dir: "/tmp", User: b.User, Packages: b.Packages}
	if o.Timeout, err = b.Timeout.Limit(pythonTimeout); err != nil {
		return nil, err
	}
	if b.Dir != nil {
		o.Dir = *b.Dir
	}
	if b.Stdin != "" {
		o.Stdin = strings.NewReader(b.Stdin)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	r := sb.PythonCapture(ctx, b.Code, o)
	if r.Code == bandsox.CodeConflict { // it doesn't run
		return nil, &bandsox.Error{Code: r.Code, Op: "exec", ID: sb.ID(), Err: errors.New(strings.TrimPrefix(r.Error, "exec "+sb.ID()+": ")), Hint: r.Hint}
	}
	out := api.ExecutedPython{PythonResult: r}
	if r.Error != "" {
		out.Error = &r.Error
	}
	return answered(out), nil
}
