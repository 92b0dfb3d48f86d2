package guest

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// ident is who a process runs as.
type ident struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// lookupUser finds out who spec means, by docker's rules: "name", "uid",
// "name:group", "uid:gid"; empty is root. passwd and group are the contents of
// the files of the same name, possibly empty. A uid that passwd doesn't have
// is fine, a name is not. Supplementary groups come with a user known to
// passwd, unless a group was asked for. The group itself is always one of them:
// else a program that changes its group would escape what is denied to the
// first (CVE-2022-36109).
func lookupUser(spec string, passwd, group []byte) (ident, error) {
	name, groupName, withGroup := strings.Cut(spec, ":")
	if spec == "" {
		name = "0"
	}
	if name == "" || withGroup && groupName == "" {
		return ident{}, wire.Errorf(wire.Invalid, "looking up user %q: want name, uid, name:group or uid:gid", spec)
	}
	id := ident{home: "/"}
	uid, numeric := parseID(name)
	id.uid = uid
	known := "" // the name that /etc/passwd has for it
	eachLine(passwd, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		u, ok1 := parseID(f[2])
		g, ok2 := parseID(f[3])
		if !ok1 || !ok2 || f[0] != name && (!numeric || u != uid) {
			return true
		}
		known, id.uid, id.gid = f[0], u, g
		if len(f) > 5 && f[5] != "" {
			id.home = f[5]
		}
		return false
	})
	if known == "" && !numeric {
		return ident{}, wire.Errorf(wire.Invalid, "looking up user %q: the guest's /etc/passwd has no such name", name).
			WithHint("give the uid instead")
	}
	if withGroup {
		gid, err := lookupGroup(groupName, group)
		id.gid, id.groups = gid, []uint32{gid}
		return id, err
	}
	id.groups = []uint32{id.gid}
	if known != "" {
		id.groups = groupsOf(known, id.gid, group)
	}
	return id, nil
}

func lookupGroup(name string, group []byte) (uint32, error) {
	gid, found := parseID(name)
	eachLine(group, func(f []string) bool {
		if len(f) < 3 || f[0] != name {
			return true
		}
		g, ok := parseID(f[2])
		if ok {
			gid, found = g, true
		}
		return !ok
	})
	if !found {
		return 0, wire.Errorf(wire.Invalid, "looking up group %q: the guest's /etc/group has no such name", name).
			WithHint("give the gid instead")
	}
	return gid, nil
}

// maxGroups is the kernel's limit of supplementary groups.
const maxGroups = 65536

// groupsOf returns primary, then the other groups that user is a member of.
func groupsOf(user string, primary uint32, group []byte) []uint32 {
	gids := []uint32{primary}
	eachLine(group, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		gid, ok := parseID(f[2])
		for member := range strings.SplitSeq(f[3], ",") {
			if ok && gid != primary && strings.TrimSpace(member) == user {
				gids = append(gids, gid)
				break
			}
		}
		return len(gids) < maxGroups
	})
	return gids
}

// parseID reads a uid or gid. The last one means "no change" to the kernel.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1
}

// eachLine calls f with the colon-separated fields of every line that is not
// blank or a comment, until f returns false.
func eachLine(file []byte, f func([]string) bool) {
	for line := range bytes.SplitSeq(file, []byte{'\n'}) {
		s := strings.TrimSpace(string(line))
		if s == "" || s[0] == '#' {
			continue
		}
		if !f(strings.Split(s, ":")) {
			return
		}
	}
}
