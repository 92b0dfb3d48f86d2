package disk

import (
	"bytes"
	"context"
	"io"
	"os"
)

// holeSize is how long a run of zeros must be, and how it must be aligned, to
// become a hole: shorter ones would only scatter the file.
const holeSize = 64 << 10

var zeros [holeSize]byte

// sparseFile is a file to write from the beginning that leaves holes for
// zeros. It keeps the first failure, which the ext4 writer may garble.
type sparseFile struct {
	f       *os.File
	ctx     context.Context
	pos     int64
	written int64 // nothing but holes from here on
	size    int64
	err     error
}

func (s *sparseFile) Write(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	total := len(p)
	for len(p) > 0 && s.err == nil {
		n := s.run(p)
		if s.hole(p[:n]) {
			s.pos += int64(n)
			p = p[n:]
			continue
		}
		n, s.err = s.f.WriteAt(p[:n], s.pos)
		s.pos += int64(n)
		s.written = max(s.written, s.pos)
		p = p[n:]
	}
	s.size = max(s.size, s.pos)
	return total - len(p), s.err
}

// run is how many bytes of p to write, or leave out, at once.
func (s *sparseFile) run(p []byte) int {
	n := int(min(int64(len(p)), holeSize-s.pos%holeSize))
	if s.hole(p[:n]) {
		return n
	}
	for n < len(p) && !s.zero(p[n:min(n+holeSize, len(p))]) {
		n = min(n+holeSize, len(p))
	}
	return n
}

func (s *sparseFile) hole(p []byte) bool { return s.pos >= s.written && s.zero(p) }

func (s *sparseFile) zero(p []byte) bool {
	return len(p) == holeSize && bytes.Equal(p, zeros[:])
}

func (s *sparseFile) Read(p []byte) (int, error) {
	if s.pos >= s.size {
		return 0, io.EOF
	}
	n, err := s.f.ReadAt(p[:min(int64(len(p)), s.size-s.pos)], s.pos)
	if err == io.EOF { // a hole at the end that has not been made yet
		clear(p[n:])
		n, err = int(min(int64(len(p)), s.size-s.pos)), nil
	}
	s.pos += int64(n)
	return n, err
}

func (s *sparseFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, os.ErrInvalid
	}
	s.pos = offset
	return offset, nil
}

// finish gives the file its length and corrects what the ext4 writer did.
func (s *sparseFile) finish(id [16]byte) error {
	if s.err == nil {
		s.err = s.f.Truncate(s.size)
	}
	if s.err == nil {
		s.err = correct(s.f, id)
	}
	return s.err
}
