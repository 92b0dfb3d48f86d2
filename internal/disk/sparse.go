package disk

import (
	"bytes"
	"context"
	"io"
	"os"
)

// holeSize is how long a run of zeros must be, by and large, and how it must be
// aligned, to become a hole: shorter ones would only scatter the file.
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
		n, hole := s.run(p)
		if !hole {
			n, s.err = s.f.WriteAt(p[:n], s.pos)
			s.written = max(s.written, s.pos+int64(n))
		}
		s.pos += int64(n)
		p = p[n:]
	}
	s.size = max(s.size, s.pos)
	return total - len(p), s.err
}

// run is how many bytes of p to write, or to leave out, at once. It looks at
// one aligned piece of holeSize after the other, or as much of it as p holds.
func (s *sparseFile) run(p []byte) (n int, hole bool) {
	for n < len(p) {
		at := s.pos + int64(n)
		m := int(min(int64(len(p)-n), holeSize-at%holeSize))
		if at >= s.written && zero(p[n:n+m]) {
			if n > 0 {
				return n, false
			}
			return m, true
		}
		n += m
	}
	return n, false
}

// zero says whether p is whole blocks of zeros.
func zero(p []byte) bool { return len(p)%blockSize == 0 && bytes.Equal(p, zeros[:len(p)]) }

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
