package agent

import (
	"bytes"
	"io"
	"slices"

	"github.com/bandsox/bandsox/internal/wire"
)

// packer sends a tree's entries to a guest that keeps nothing in mind: a
// directory is sent once so that it can be written to, and again, after all
// that is in it, with the mode and time that it is to have.
type packer struct {
	w        *wire.TreeWriter
	once     bool // send directories once: the other side keeps them in mind
	own      bool // keep owners; else all of it is root's
	progress func(done, total int64)
	dirs     []*wire.Entry
	done     int64
}

// entry sends one entry and its content.
func (p *packer) entry(e *wire.Entry, content io.Reader) error {
	if !p.own {
		e.UID, e.GID = 0, 0
	}
	if e.Type == wire.EntryDir && !p.once {
		p.dirs = append(p.dirs, e)
		first := *e
		first.Mode |= 0o700
		return p.w.Entry(&first)
	}
	if err := p.w.Entry(e); err != nil {
		return err
	}
	return p.content(e, content)
}

// zeroBlock is how much of a file must be zero to be sent as a hole.
const zeroBlock = 4 << 10

var zeros [chunk]byte

func (p *packer) content(e *wire.Entry, r io.Reader) error {
	for p.w.Left() > 0 {
		room, err := p.w.Room()
		if err != nil {
			return err
		}
		n, err := io.ReadFull(r, room)
		if n >= zeroBlock && bytes.Equal(room[:n], zeros[:n]) {
			if herr := p.w.Hole(int64(n)); herr != nil {
				return herr
			}
		} else {
			p.w.Wrote(n)
		}
		p.done += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return wire.Errorf(wire.Conflict, "%q shrank from %d bytes while it was read, by %d", e.Path, e.Size, p.w.Left())
		}
		if err != nil {
			return err
		}
		if p.progress != nil {
			p.progress(p.done, 0)
		}
	}
	return nil
}

// finish sends the directories again, the deepest first.
func (p *packer) finish() error {
	for _, e := range slices.Backward(p.dirs) {
		if err := p.w.Entry(e); err != nil {
			return err
		}
	}
	return nil
}
