package disk

import (
	"encoding/binary"
	"errors"
)

// Tags of ACL entries that name a user or a group; the others stand for the
// file's own.
const (
	aclUser  = 0x02
	aclGroup = 0x08
)

// diskACL turns a POSIX ACL as system calls and tars have it into ext4's own
// form, which leaves out ids that mean nothing. The kernel would take the
// other form for damage and refuse all access to the file.
func diskACL(value string) (string, error) {
	b := []byte(value)
	le := binary.LittleEndian
	if len(b) < 4 || len(b)%8 != 4 || le.Uint32(b) != 2 {
		return "", errors.New("a malformed ACL")
	}
	out := le.AppendUint32(nil, 1)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		tag := le.Uint16(b)
		switch tag {
		case aclUser, aclGroup:
			out = append(out, b[:8]...)
		case 0x01, 0x04, 0x10, 0x20:
			out = append(out, b[:4]...)
		default:
			return "", errors.New("a malformed ACL")
		}
	}
	return string(out), nil
}
