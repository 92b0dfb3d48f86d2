package guest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// chunk is how much of a file is in hand at a time: what one frame carries.
const chunk = wire.MaxData

func (s *service) stat(path string) (wire.Stat, error) {
	full := s.path(path)
	fi, err := os.Lstat(full)
	if errors.Is(err, syscall.ENOTDIR) {
		return wire.Stat{}, wire.Errorf(wire.NotFound, "looking at %q: %v", path, syscall.ENOTDIR)
	}
	if err != nil {
		return wire.Stat{}, fileError("looking at", path, err)
	}
	return statOf(path, full, fi), nil
}

func statOf(path, full string, fi fs.FileInfo) wire.Stat {
	st := fi.Sys().(*syscall.Stat_t)
	r := wire.Stat{
		Path: path, Type: typeOf(st.Mode), Size: st.Size, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Mtime: time.Unix(st.Mtim.Unix()).UTC(), Inode: st.Ino,
	}
	if r.Type == "symlink" {
		r.Target, _ = os.Readlink(full)
	}
	return r
}

// read sends a file's Stat and its bytes. Those of /proc say 0 of their size:
// what counts is where reading ends.
func (s *service) read(st *wire.Stream, r *wire.ReadRequest) (int64, error) {
	if r.Offset < 0 || r.Length < 0 {
		return 0, wire.Errorf(wire.Invalid, "reading %q: a negative offset or length", r.Path)
	}
	full := s.path(r.Path)
	f, err := openRegular(full)
	if err != nil {
		return 0, fileError("reading", r.Path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, fileError("reading", r.Path, err)
	}
	stat := statOf(r.Path, full, fi)
	if err := st.SendControl(wire.Control{Stat: &stat}); err != nil {
		return 0, err
	}
	if r.Offset > 0 {
		if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
			return 0, fileError("reading", r.Path, err)
		}
	}
	packet := new(wire.Packet)
	buf := packet.Data()[:chunk]
	total := int64(0)
	for r.Length == 0 || total < r.Length {
		want := buf
		if r.Length > 0 {
			want = buf[:min(chunk, r.Length-total)]
		}
		n, err := readFD(f, want)
		if err != nil {
			return 0, fileError("reading", r.Path, err)
		}
		if n == 0 {
			break
		}
		if err := st.SendPacket(wire.KindData, packet, n); err != nil {
			return 0, err
		}
		total += int64(n)
	}
	return total, nil
}

// readFD reads without the runtime's poller: a file that has nothing now, such
// as /proc/kmsg, says so instead of keeping the host waiting.
func readFD(f *os.File, p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	r := withFD(f, func(fd int) result {
		for {
			n, err := unix.Read(fd, p)
			if err != unix.EINTR {
				return result{n, err}
			}
		}
	})
	return r.n, r.err
}
