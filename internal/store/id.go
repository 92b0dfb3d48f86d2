package store

import (
	"crypto/rand"
	"regexp"
	"strings"
)

const idLen = 20

// NewID makes an id: 20 random characters of 0-9a-z, good as a host name, a
// cgroup and a file name.
func NewID() string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	var id [idLen]byte
	for i := range id {
		for {
			var b [1]byte
			_, _ = rand.Read(b[:]) // never fails: it ends the program instead
			// 252 is the largest multiple of 36 that fits: no character is likelier.
			if b[0] < 252 {
				id[i] = alphabet[b[0]%36]
				break
			}
		}
	}
	return string(id[:])
}

// ValidID reports whether s could be an id. What isn't one never gets into a path.
func ValidID(s string) bool {
	return len(s) == idLen && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// ValidName reports whether s may name a sandbox: letters, digits, `_`, `.` and
// `-`, at most 63, and nothing that looks like an id.
func ValidName(s string) bool { return nameRE.MatchString(s) && !ValidID(s) }
