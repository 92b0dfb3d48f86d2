package wire

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/bits"
)

// Every frame is a header and a payload, numbers little endian:
//
//	0  magic    2  0xB5 0x0C
//	2  type     1
//	3  flags    1  of data: the kind; flagMore: the message goes on in the next frame
//	4  session  4
//	8  stream   4  0: the session itself
//	12 length   4  of the payload, at most maxPayload
//	16 payload  4  sum of the payload
//	20 header   4  CRC-32C of the twenty bytes before
//
// Two checksums, so that a reader that starts in the middle of something
// neither waits for a length that was never sent nor takes half a frame for a
// whole one.
const (
	headerLen  = 24
	maxPayload = 64 << 10
	maxFrame   = headerLen + maxPayload

	magic0 = 0xB5
	magic1 = 0x0C
)

type frameType byte

const (
	typeHello      frameType = 1  // host: a Hello; starts a session
	typeHelloReply frameType = 2  // guest: a HelloReply
	typeOpen       frameType = 3  // host: a Request; may span frames
	typeData       frameType = 4  // a message, or part of one
	typeWindow     frameType = 5  // 4 bytes: so much more may be sent
	typeFin        frameType = 6  // nothing follows on this stream
	typeReset      frameType = 7  // an Error, or nothing; ends a stream, or with stream 0 the session
	typePing       frameType = 8  // 8 bytes
	typePong       frameType = 9  // the same 8 bytes
	typePad        frameType = 10 // ignored: frees a reader stuck in half a frame
)

const (
	flagMore = 0x80 // of open and data: the message goes on
	flagPad  = 0x01 // of hello: answer with padding, the first answer was not understood
)

type frame struct {
	typ     frameType
	flags   byte
	session uint32
	stream  uint32
	payload []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the payload's checksum: four lanes of exclusive-or, multiply and
// rotate over words of eight bytes, little endian, the last padded with zeros.
// It is there to find out half frames, not forgers.
//
// CRC-32C was first. Where there is hardware it is an instruction, and in an
// emulated guest that instruction is a loop over bits: at 55 MiB/s it was most
// of the cost of a stream.
func sum(p []byte) uint32 {
	a, b, c, d := uint64(len(p)), uint64(1), uint64(2), uint64(3)
	for ; len(p) >= 32; p = p[32:] {
		a = mix(a, binary.LittleEndian.Uint64(p))
		b = mix(b, binary.LittleEndian.Uint64(p[8:]))
		c = mix(c, binary.LittleEndian.Uint64(p[16:]))
		d = mix(d, binary.LittleEndian.Uint64(p[24:]))
	}
	if len(p) > 0 {
		var rest [32]byte
		copy(rest[:], p)
		a = mix(a, binary.LittleEndian.Uint64(rest[:]))
		b = mix(b, binary.LittleEndian.Uint64(rest[8:]))
		c = mix(c, binary.LittleEndian.Uint64(rest[16:]))
		d = mix(d, binary.LittleEndian.Uint64(rest[24:]))
	}
	return uint32(mix(mix(mix(a, b), c), d) >> 32)
}

// mix takes one word into a lane. It loses nothing: the factor is odd.
func mix(lane, word uint64) uint64 {
	return bits.RotateLeft64((lane^word)*0x9E3779B185EBCA87, 31)
}

// header encodes all of f but its payload.
func (f *frame) header() (h [headerLen]byte) {
	h[0], h[1], h[2], h[3] = magic0, magic1, byte(f.typ), f.flags
	binary.LittleEndian.PutUint32(h[4:], f.session)
	binary.LittleEndian.PutUint32(h[8:], f.stream)
	binary.LittleEndian.PutUint32(h[12:], uint32(len(f.payload)))
	binary.LittleEndian.PutUint32(h[16:], sum(f.payload))
	binary.LittleEndian.PutUint32(h[20:], crc32.Checksum(h[:20], castagnoli))
	return h
}

// Packet is memory for one frame: the data, and room for a header before it.
type Packet struct{ buf [headerLen + MaxData]byte }

// Data is where the data goes.
func (p *Packet) Data() []byte { return p.buf[headerLen:] }

func (f *frame) append(b []byte) []byte {
	h := f.header()
	return append(append(b, h[:]...), f.payload...)
}

// decode reads the frame at the start of b. When ok is false, n says why:
// more than len(b), and n bytes are needed to tell; else b does not start with
// a frame. The payload points into b.
func decode(b []byte) (f frame, n int, ok bool) {
	switch {
	case len(b) > 0 && b[0] != magic0, len(b) > 1 && b[1] != magic1:
		return f, 0, false
	case len(b) < headerLen:
		return f, headerLen, false
	}
	length := binary.LittleEndian.Uint32(b[12:])
	if length > maxPayload || crc32.Checksum(b[:20], castagnoli) != binary.LittleEndian.Uint32(b[20:]) {
		return f, 0, false
	}
	n = headerLen + int(length)
	if len(b) < n {
		return f, n, false
	}
	f = frame{
		typ:     frameType(b[2]),
		flags:   b[3],
		session: binary.LittleEndian.Uint32(b[4:]),
		stream:  binary.LittleEndian.Uint32(b[8:]),
		payload: b[headerLen:n:n],
	}
	if sum(f.payload) != binary.LittleEndian.Uint32(b[16:]) {
		return frame{}, 0, false
	}
	return f, n, true
}

// reader finds the frames in a byte stream. It holds a whole frame before it
// lets go of any byte of it, so that what half a frame swallowed is still found.
type reader struct {
	r          io.Reader
	buf        []byte
	start, end int
}

// readBuffer holds a few frames: a read takes as many as have come.
const readBuffer = 3 * maxFrame

func newReader(r io.Reader) *reader {
	return &reader{r: r, buf: make([]byte, readBuffer)}
}

// next returns the next frame, and how many bytes before it belonged to none.
// The payload is valid until the next call.
func (r *reader) next() (f frame, skipped int, err error) {
	for {
		b := r.buf[r.start:r.end]
		f, n, ok := decode(b)
		switch {
		case ok:
			r.start += n
			return f, skipped, nil
		case n > len(b):
			if err := r.fill(n); err != nil {
				return frame{}, skipped, err
			}
		default:
			// Not a frame: on to the next byte that may start one.
			skip := len(b)
			if i := bytes.IndexByte(b[1:], magic0); i >= 0 {
				skip = 1 + i
			}
			r.start += skip
			skipped += skip
		}
	}
}

// fill reads once, after making room for n bytes in all.
func (r *reader) fill(n int) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if len(r.buf)-r.start < n {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for range 100 {
		n, err := r.r.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			return io.ErrNoProgress
		}
		r.end += n
		if n > 0 {
			return nil // an error will be there again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// reset forgets what was read and not yet returned.
func (r *reader) reset() { r.start, r.end = 0, 0 }
