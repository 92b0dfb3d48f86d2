package disk

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	xattrRecord = "SCHILY.xattr."
	tarBlock    = 512

	maxXattrName = 255
	maxSymlink   = 4095 // the kernel's, and what one block holds

	// The ext4 writer gets extents right up to one leaf of 340 of them,
	// 128 MiB each.
	maxFile = 340 * 128 << 20
)

// source is a tar stream changed on its way to the ext4 writer, so that the
// writer makes of it what it should. Only headers are rendered anew; contents
// go straight through.
type source struct {
	tr   *tar.Reader
	head bytes.Buffer // bytes to give before anything else
	left int64        // of the current file's contents
	pad  int64        // zeros after them
	sum  hash.Hash    // of all headers
	end  bool
}

func newSource(r io.Reader) *source {
	return &source{tr: tar.NewReader(r), sum: sha256.New()}
}

// identity is the same for equal streams and different for other names, sizes
// or times.
func (s *source) identity() [16]byte { return [16]byte(s.sum.Sum(nil)) }

func (s *source) Read(p []byte) (int, error) {
	for {
		switch {
		case s.head.Len() > 0:
			return s.head.Read(p)
		case s.left > 0:
			n, err := s.tr.Read(p[:min(int64(len(p)), s.left)])
			s.left -= int64(n)
			if err == io.EOF && s.left > 0 {
				err = io.ErrUnexpectedEOF
			}
			if n > 0 && err == io.EOF {
				err = nil
			}
			return n, err
		case s.pad > 0:
			n := min(int64(len(p)), s.pad)
			clear(p[:n])
			s.pad -= n
			return int(n), nil
		case s.end:
			return 0, io.EOF
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
}

func (s *source) next() error {
	h, err := s.tr.Next()
	if err == io.EOF {
		s.end, s.pad = true, 2*tarBlock
		return nil
	}
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	out, err := header(h)
	if err != nil {
		return wire.Errorf(wire.Invalid, "entry %s: %w", quote(h.Name), err)
	}
	s.head.Reset()
	if err := tar.NewWriter(&s.head).WriteHeader(out); err != nil {
		return wire.Errorf(wire.Invalid, "entry %s: %w", quote(h.Name), err)
	}
	s.sum.Write(s.head.Bytes())
	s.left, s.pad = out.Size, -out.Size&(tarBlock-1)
	return nil
}

// header returns what the ext4 writer should see for h.
func header(h *tar.Header) (*tar.Header, error) {
	mtime := fsTime(h.ModTime)
	out := &tar.Header{
		Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: mtime, AccessTime: mtime, ChangeTime: mtime, Format: tar.FormatPAX,
	}
	if uint64(h.Uid) > 1<<32-1 || uint64(h.Gid) > 1<<32-1 {
		return nil, errors.New("an owner of more than 32 bits")
	}
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		out.Typeflag, out.Size = tar.TypeReg, h.Size
		if h.Size > maxFile {
			return nil, errors.New("a file larger than 42 GiB")
		}
	case tar.TypeSymlink:
		if n := len(h.Linkname); n == 0 || n > maxSymlink {
			return nil, errors.New("a symbolic link's target must have 1 to 4095 bytes")
		}
	case tar.TypeChar, tar.TypeBlock:
		if uint64(h.Devmajor) >= 1<<12 || uint64(h.Devminor) >= 1<<20 {
			return nil, errors.New("no such device number")
		}
		out.Devmajor, out.Devminor = h.Devmajor, h.Devminor
	case tar.TypeLink:
		return out, nil // its xattrs are the target's
	case tar.TypeDir, tar.TypeFifo:
	default:
		return nil, errors.New("type " + strconv.QuoteRune(rune(h.Typeflag)) + " is not known")
	}
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if !ok {
			continue
		}
		value, ok, err := xattr(name, value)
		if err != nil {
			return nil, err
		}
		if ok {
			if out.PAXRecords == nil {
				out.PAXRecords = make(map[string]string)
			}
			out.PAXRecords[record] = value
		}
	}
	return out, nil
}

// xattr returns the value as ext4 stores it; false: not for us.
func xattr(name, value string) (string, bool, error) {
	switch name {
	case "system.posix_acl_access", "system.posix_acl_default":
		v, err := diskACL(value)
		return v, err == nil, err
	}
	space, rest, _ := strings.Cut(name, ".")
	switch space {
	case "user", "trusted", "security":
	default:
		return "", false, nil // nothing that ext4 or Linux knows
	}
	if rest == "" {
		return "", false, nil
	}
	if len(name) > maxXattrName {
		return "", false, errors.New("the name of an xattr is longer than 255 bytes")
	}
	// The base is the lower layer of an overlay, and these are the overlay's
	// own notes: an image must not speak in its name.
	if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
		return "", false, nil
	}
	return value, true, nil
}

// fsTime returns the time that makes the ext4 writer store t. It takes the 34
// low bits of the seconds for ext4's format; but that is a signed 32-bit number
// and how many times 2^32 to add, so that all with bit 31 set wrap (2038 to
// 2106, and before 1970 the nanoseconds are lost too) unless 2^32 is added
// first. From 2310 to 2378 that is more than the writer takes: then the negative
// number that has the right 34 bits is given to it, and correct puts right the
// nanoseconds, which are lost. ext4's last second is in 2446.
func fsTime(t time.Time) time.Time {
	sec := min(max(t.Unix(), -1<<31), 0x37fffffff)
	switch {
	case sec&(1<<31) == 0:
	case sec < 5<<31:
		sec += 1 << 32
	default:
		return time.Unix(sec-3<<32, 0)
	}
	return time.Unix(sec, int64(t.Nanosecond()))
}

// quote shows a name of a stranger's choice, at a bearable length.
func quote(name string) string {
	if len(name) > 200 {
		return strconv.Quote(name[:200]) + "..."
	}
	return strconv.Quote(name)
}
