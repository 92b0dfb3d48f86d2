package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

// goldenFrames are one of each: what they look like on the wire is a promise.
var goldenFrames = []struct {
	name string
	f    frame
}{
	{"hello", frame{typ: typeHello, session: 0x01020304, payload: []byte(`{"version":1,"time":"2026-01-02T03:04:05Z"}`)}},
	{"hello again", frame{typ: typeHello, flags: flagPad, session: 0x01020304, payload: []byte(`{"version":1,"time":"2026-01-02T03:04:05Z"}`)}},
	{"hello-reply", frame{typ: typeHelloReply, session: 0x01020304, payload: []byte(`{"version":1,"agent":"0.1"}`)}},
	{"open", frame{typ: typeOpen, session: 0x01020304, stream: 1, payload: []byte(`{"op":"stats"}`)}},
	{"open in parts", frame{typ: typeOpen, flags: flagMore, session: 0x01020304, stream: 3, payload: []byte(`{"op":"start",`)}},
	{"stdout", frame{typ: typeData, flags: byte(KindData), session: 0x01020304, stream: 1, payload: []byte("hello\n")}},
	{"stderr", frame{typ: typeData, flags: byte(KindStderr), session: 0x01020304, stream: 1, payload: []byte("oh\n")}},
	{"control", frame{typ: typeData, flags: byte(KindControl), session: 0x01020304, stream: 1, payload: []byte(`{"exit":{"code":0}}`)}},
	{"control in parts", frame{typ: typeData, flags: byte(KindControl) | flagMore, session: 0x01020304, stream: 1, payload: []byte(`{"exit":`)}},
	{"window", frame{typ: typeWindow, session: 0x01020304, stream: 1, payload: []byte{0, 0, 1, 0}}},
	{"fin", frame{typ: typeFin, session: 0x01020304, stream: 1}},
	{"reset", frame{typ: typeReset, session: 0x01020304, stream: 1, payload: []byte(`{"code":"not_found","message":"no"}`)}},
	{"end of session", frame{typ: typeReset, session: 0x01020304}},
	{"ping", frame{typ: typePing, session: 0x01020304, payload: []byte("12345678")}},
	{"pong", frame{typ: typePong, session: 0x01020304, payload: []byte("12345678")}},
	{"pad", frame{typ: typePad, session: 0x01020304, payload: make([]byte, 3)}},
}

func TestGoldenFrames(t *testing.T) {
	var got strings.Builder
	for _, g := range goldenFrames {
		b := g.f.append(nil)
		fmt.Fprintf(&got, "%s\n%s\n", g.name, hex.EncodeToString(b))
		f, n, ok := decode(b)
		if !ok || n != len(b) || !equalFrames(f, g.f) {
			t.Errorf("%s: read back as %+v, %d, %v", g.name, f, n, ok)
		}
	}
	const name = "testdata/frames.golden"
	if *update {
		if err := os.WriteFile(name, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Error(d)
	}
}

func equalFrames(a, b frame) bool {
	return a.typ == b.typ && a.flags == b.flags && a.session == b.session && a.stream == b.stream && bytes.Equal(a.payload, b.payload)
}

// Any one bit wrong, and it is no frame.
func TestFrameBitFlips(t *testing.T) {
	f := goldenFrames[5].f
	b := f.append(nil)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, _, ok := decode(b); ok {
			t.Errorf("bit %d flipped: still a frame", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

// A reader finds every whole frame among garbage and half frames, also one
// that half a frame has swallowed.
func TestReaderResync(t *testing.T) {
	big := frame{typ: typeData, session: 9, stream: 1, payload: bytes.Repeat([]byte{magic0, magic1, 7}, maxPayload/3)}
	hello, pad := goldenFrames[0].f, *padFrame(9)
	bigBytes := big.append(nil)

	var in []byte
	var want []frame
	add := func(f frame) { in = f.append(in); want = append(want, f) }
	in = append(in, "no frame at all"...)
	add(hello)
	in = append(in, bytes.Repeat([]byte{magic0, magic1}, 1000)...)
	add(big)
	in = append(in, bigBytes[len(bigBytes)/2:]...) // the end of one
	add(hello)
	in = append(in, bigBytes[:headerLen+5]...) // the beginning of one
	add(hello)
	add(pad)
	in = append(in, bigBytes[:headerLen-1]...)
	add(hello)
	in = append(in, bigBytes[:len(bigBytes)-1]...)
	add(hello)
	add(hello)

	for name, src := range map[string]io.Reader{
		"whole":  bytes.NewReader(in),
		"halves": iotest.HalfReader(bytes.NewReader(in)),
		"bytes":  iotest.OneByteReader(bytes.NewReader(in)),
	} {
		r := newReader(src)
		for i, w := range want {
			f, _, err := r.next()
			if err != nil || !equalFrames(f, w) {
				t.Fatalf("%s: frame %d: type %d of %d bytes, %v; want type %d of %d bytes", name, i, f.typ, len(f.payload), err, w.typ, len(w.payload))
			}
		}
		if _, _, err := r.next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

// A Read that never gives anything does not spin for ever.
func TestReaderNoProgress(t *testing.T) {
	if _, _, err := newReader(iotest.ErrReader(nil)).next(); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

// Every byte, its place and the length count in the sum.
func TestSum(t *testing.T) {
	p := make([]byte, 100)
	for i := range p {
		p[i] = byte(i*7 + 1)
	}
	seen := map[uint32]string{}
	note := func(what string, b []byte) {
		if other, ok := seen[sum(b)]; ok {
			t.Errorf("%s and %s have one sum", what, other)
		}
		seen[sum(b)] = what
	}
	for n := range p {
		note(fmt.Sprintf("%d bytes", n), p[:n])
		note(fmt.Sprintf("%d zeros", n+1), make([]byte, n+1))
	}
	for i := range p {
		b := bytes.Clone(p)
		b[i] ^= 0x80
		note(fmt.Sprintf("byte %d changed", i), b)
	}
	for i := range len(p) - 32 {
		b := bytes.Clone(p)
		b[i], b[i+32] = b[i+32], b[i]
		note(fmt.Sprintf("bytes %d and %d swapped", i, i+32), b)
	}
}
