package api

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/wire"
)

// The first byte of a binary frame says what the rest is.
const (
	FrameStdin  = 0
	FrameStdout = 1
	FrameStderr = 2
)

// FramesType is the media type of an answer of frames: a byte as above, the
// length of the rest in four bytes, the greatest first, and that. The texts
// that stand beside the output on a WebSocket are of kind FrameJSON; an empty one
// says nothing.
const (
	FramesType = "application/vnd.bandsox.frames"
	FrameJSON  = 0
	FrameHead  = 5
)

// AppendFrame appends such a frame to b.
func AppendFrame(b []byte, kind byte, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(b, kind), uint32(len(p))), p...)
}

// StdinWindow is how much of a program's input a client may send before the
// server has told, by a stdin frame, that the program took it. What is sent
// beyond it holds up the frames behind.
const StdinWindow = 1 << 20

// The codes that a program's WebSocket is closed with, beside 1000.
const (
	CloseFailed  = 4000 // what was asked for can't be
	CloseNotHere = 4004 // there is no such sandbox, or it doesn't run
)

// ExecStart is the first frame of an exec-stream: what to run.
type ExecStart struct {
	Program
	Timeout json.RawMessage `json:"timeout,omitempty"` // seconds; see Server.execStream
	TTY     *bandsox.Size   `json:"tty,omitempty"`
	Stdin   bool            `json:"stdin,omitempty"` // the client sends input
	Binary  bool            `json:"binary,omitempty"`
	Leave   string          `json:"on_disconnect,omitempty"` // kill (the default) or keep
	Python  *PythonStart    `json:"python,omitempty"`        // run this in place of a program
}

// PythonStart is Python code to be run. Environment, directory and user are the
// ExecStart's.
type PythonStart struct {
	Code     string   `json:"code"`
	Args     []string `json:"args,omitempty"`
	Filename string   `json:"filename,omitempty"`
	Packages []string `json:"packages,omitempty"`
}

// ClientFrame is a text frame of a client.
type ClientFrame struct {
	Type   string `json:"type"`             // input, close_stdin, signal, kill or resize
	Data   string `json:"data,omitempty"`   // of input: base64
	Signal Signal `json:"signal,omitempty"` // of signal
	Cols   int    `json:"cols,omitempty"`   // of resize
	Rows   int    `json:"rows,omitempty"`
}

// Started is the frame, or event, that says what runs.
type Started struct {
	Type    string `json:"type,omitempty"` // started, attached or hello
	Process string `json:"process,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Offset  int64  `json:"offset"` // where in its output the next byte is
	Lost    int64  `json:"lost"`   // bytes that were asked for and are no longer kept
}

// Output is the frame, or event, of a piece of output.
type Output struct {
	Type     string `json:"type,omitempty"` // stdout or stderr
	Data     string `json:"data"`
	Encoding string `json:"encoding,omitempty"` // base64 where data is no text
}

// ExitFrame is the last frame of a program.
type ExitFrame struct {
	Type string `json:"type"` // exit
	Ended
}

// ErrorFrame is the last frame where a program's end isn't known, or it did not
// start. One of type refused is no end: a signal or a size was of no use.
type ErrorFrame struct {
	Type string    `json:"type"` // error or refused
	Text string    `json:"error"`
	Code wire.Code `json:"code"`
	Hint string    `json:"hint,omitempty"`
	Op   string    `json:"op,omitempty"`
	ID   string    `json:"id,omitempty"`
}

// StdinFrame tells how much of its input a program has taken.
type StdinFrame struct {
	Type  string `json:"type"` // stdin
	Taken int64  `json:"taken"`
}

// Signal is a signal's number. It is read from a name too.
type Signal int

// UnmarshalJSON reads a number or a name.
func (s *Signal) UnmarshalJSON(b []byte) error {
	var name string
	var n int
	if json.Unmarshal(b, &n) != nil {
		if json.Unmarshal(b, &name) != nil {
			return wire.Errorf(wire.Invalid, "signal %s: must be a number or a name", b)
		}
		name = "SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")
		if n = int(unix.SignalNum(name)); n == 0 {
			return wire.Errorf(wire.Invalid, "signal %q: there is none of this name", name)
		}
	}
	*s = Signal(n)
	return nil
}

// Number is the signal, if it can be one.
func (s Signal) Number() (syscall.Signal, error) {
	if s < 1 || s > 64 {
		return 0, wire.Errorf(wire.Invalid, "signal %d: must be a number from 1 to 64, or a name", int(s))
	}
	return syscall.Signal(s), nil
}

// TerminalSize is a terminal's size, if it can be one.
func TerminalSize(cols, rows int) (bandsox.Size, error) {
	const most = 1<<16 - 1
	if cols < 1 || rows < 1 || cols > most || rows > most {
		return bandsox.Size{}, wire.Errorf(wire.Invalid, "a terminal of %d by %d: must be from 1 to %d", cols, rows, most)
	}
	return bandsox.Size{Cols: uint16(cols), Rows: uint16(rows)}, nil
}
