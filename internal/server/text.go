package server

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/bandsox/bandsox/internal/api"
)

// texts makes text of a program's output without tearing a character that two
// reads share. The streams are api.FrameStdout and api.FrameStderr.
type texts struct{ held [3][]byte }

// cut returns what is whole of what is held and p together, and holds the rest.
func (t *texts) cut(stream byte, p []byte) []byte {
	if held := t.held[stream]; len(held) > 0 {
		p = append(held, p...)
	}
	whole := len(p) - torn(p)
	t.held[stream] = append([]byte(nil), p[whole:]...)
	return p[:whole]
}

// rest returns what is held: the output has ended.
func (t *texts) rest(stream byte) []byte {
	b := t.held[stream]
	t.held[stream] = nil
	return b
}

// torn is the length of the beginning of a character that b ends with.
func torn(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// text is b as text, with a replacement for what is none.
func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// piece is b as an event has it: nothing is lost of what is no text.
func piece(b []byte) api.Output {
	if utf8.Valid(b) {
		return api.Output{Data: string(b)}
	}
	return api.Output{Data: base64.StdEncoding.EncodeToString(b), Encoding: "base64"}
}

// streamNames are what the streams are called in text.
var streamNames = [...]string{api.FrameStdout: "stdout", api.FrameStderr: "stderr"}

// gate holds up whoever writes until it is opened: what says that a program
// runs goes before its output.
type gate chan struct{}

func (g gate) open() { close(g) }

// writer writes with f when the gate is open.
func (g gate) writer(stream byte, f func(stream byte, p []byte) error) io.Writer {
	return gated{g, stream, f}
}

type gated struct {
	gate   gate
	stream byte
	f      func(byte, []byte) error
}

func (w gated) Write(p []byte) (int, error) {
	<-w.gate
	if err := w.f(w.stream, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// bounded keeps what several streams write, until that is too much.
type bounded struct {
	out  [3]bytes.Buffer
	left int
	over func() // called once there is too much
}

func (b *bounded) put(stream byte, p []byte) error {
	if len(p) > b.left {
		b.over()
		b.left = 0 // what it was is lost anyway
		return nil
	}
	b.left -= len(p)
	b.out[stream].Write(p)
	return nil
}
