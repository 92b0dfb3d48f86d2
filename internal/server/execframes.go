package server

import (
	"net/http"

	"github.com/bandsox/bandsox/internal/api"
)

// execFrames is exec with the output as it comes, byte for byte: what our own
// client asks for, since its connection is as good as before when the program
// has ended, where a WebSocket takes one of its own.
func (s *Server) execFrames(w http.ResponseWriter, r *http.Request) error {
	return s.execLive(w, r, &execFrames{s: s})
}

type execFrames struct {
	s *Server
	*live
	buf []byte
}

func (f *execFrames) started(w http.ResponseWriter, process string, pid int) {
	f.live = newLive(w, api.FramesType, string(api.AppendFrame(nil, api.FrameJSON, nil)))
	_ = f.live.put(api.AppendFrame(nil, api.FrameJSON, api.JSON(api.Started{Type: "started", Process: process, PID: pid})))
}

// put is called by one goroutine.
func (f *execFrames) put(stream byte, p []byte) error {
	f.buf = api.AppendFrame(f.buf[:0], stream, p)
	return f.live.put(f.buf)
}

// ended leaves the last frame to go out with the end of the answer.
func (f *execFrames) ended(err error) error {
	f.close()
	var last any
	if exit, err := api.ExitOf(err); err == nil {
		last = api.ExitFrame{Type: "exit", Ended: exit}
	} else {
		e := f.s.asStatus(err, nil)
		last = api.ErrorFrame{Type: "error", Text: e.Detail.String(), Code: e.Code, Hint: e.Hint, Op: e.Op, ID: e.ID}
	}
	_, err = f.w.Write(api.AppendFrame(nil, api.FrameJSON, api.JSON(last)))
	return err
}
