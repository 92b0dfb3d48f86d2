package server

import (
	"bytes"
	"io"
	"os"

	"github.com/bandsox/bandsox"
)

// spoolInMemory is how much of what is put aside stays in memory.
const spoolInMemory = 256 << 10

// spool puts aside what comes before it is known what to do with it: in a file
// without a name, unless it is small.
type spool struct {
	m   *bandsox.Manager
	buf bytes.Buffer
	f   *os.File
	n   int64
}

func (s *Server) newSpool() *spool { return &spool{m: s.m} }

func (p *spool) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	if p.f == nil && p.n <= spoolInMemory {
		return p.buf.Write(b)
	}
	if p.f == nil {
		f, err := p.m.TempFile()
		if err != nil {
			return 0, err
		}
		p.f = f
		if _, err := p.buf.WriteTo(f); err != nil {
			return 0, err
		}
	}
	return p.f.Write(b)
}

// reset forgets all of it.
func (p *spool) reset() {
	p.close()
	*p = spool{m: p.m}
}

// content is all of it, from the start.
func (p *spool) content() (io.Reader, error) {
	if p.f == nil {
		return bytes.NewReader(p.buf.Bytes()), nil
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return p.f, err
}

func (p *spool) close() {
	if p.f != nil {
		p.f.Close()
		p.f = nil
	}
}
