package guest

import (
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// become makes this guest the sandbox that id says, and lets its programs go on
// if they were frozen.
func (s *service) become(id *wire.Identity) error {
	err := s.identify(id)
	if err == nil && id.Restored {
		s.restored()
	}
	s.thaw()
	if err == nil && id.Restored {
		s.runHooks()
	}
	return err
}

// identify makes this guest the sandbox that id says. What the image makes
// impossible (an /etc that is a file, say) is logged and costs nothing else.
func (s *service) identify(id *wire.Identity) error {
	if err := checkIdentity(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	former := s.names
	if id.Hostname != "" {
		if s.hostname != "" && s.hostname != id.Hostname {
			former = append(former, s.hostname) // a fork is not its parent
		}
		s.hostname = id.Hostname
		if !s.cfg.Fake {
			if err := unix.Sethostname([]byte(id.Hostname)); err != nil {
				s.log("setting the hostname: %v", err)
			}
		}
	}
	etc, err := s.openEtc()
	if err != nil {
		s.log("opening /etc: %v", err)
		return nil
	}
	defer unix.Close(etc)
	put := func(name, content string, mode uint32) {
		if err := replaceAt(etc, name, content, mode); err != nil {
			s.log("writing /etc/%s: %v", name, err)
		}
	}
	if id.Hostname != "" {
		put("hostname", id.Hostname+"\n", 0o644)
	}
	if id.Hostname != "" || len(id.Hosts) > 0 {
		old, _ := readAt(etc, "hosts")
		put("hosts", hosts(old, s.hostname, id.Hosts, former), 0o644)
		if id.Hosts != nil {
			s.names = nil
			for name := range id.Hosts {
				s.names = append(s.names, name)
			}
		}
	}
	if id.MachineID != "" {
		put("machine-id", id.MachineID+"\n", 0o444)
	}
	if len(id.DNS) > 0 {
		put("resolv.conf", "nameserver "+strings.Join(id.DNS, "\nnameserver ")+"\n", 0o644)
	} else if err := createAt(etc, "resolv.conf", 0o644); err != nil && err != unix.EEXIST {
		s.log("making /etc/resolv.conf: %v", err)
	}
	return nil
}

func checkIdentity(id *wire.Identity) error {
	bad := func(what, value string) error {
		return wire.Errorf(wire.Invalid, "setting the sandbox's identity: bad %s %q", what, value)
	}
	if id.Hostname != "" && !validHost(id.Hostname) {
		return bad("hostname", id.Hostname)
	}
	if id.MachineID != "" && (len(id.MachineID) != 32 || strings.Trim(id.MachineID, "0123456789abcdef") != "") {
		return bad("machine-id", id.MachineID)
	}
	for name, addr := range id.Hosts {
		if !validAddr(addr) || !validHost(name) {
			return bad("host", name+" "+addr)
		}
	}
	for _, addr := range id.DNS {
		if !validAddr(addr) {
			return bad("nameserver", addr)
		}
	}
	return nil
}

// validHost: what the kernel takes as its name and /etc/hosts can hold.
func validHost(name string) bool {
	return len(name) <= 64 && validID(name) && strings.Trim(name, ".") != ""
}

// hosts is old without the lines that define a name which is defined anew or
// that is no longer ours; then localhost if need be, then what is defined.
func hosts(old, hostname string, names map[string]string, former []string) string {
	var b strings.Builder
	local := false
	for l := range strings.Lines(old) {
		text, _, _ := strings.Cut(l, "#")
		f := strings.Fields(text)
		drop := false
		for _, name := range f[min(1, len(f)):] {
			_, anew := names[name]
			drop = drop || anew || name == hostname || slices.Contains(former, name)
			local = local || !drop && name == "localhost"
		}
		if !drop {
			b.WriteString(strings.TrimSuffix(l, "\n") + "\n")
		}
	}
	var defs []string
	if !local {
		defs = append(defs, "127.0.0.1\tlocalhost\n", "::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	if _, ok := names[hostname]; !ok && hostname != "" && hostname != "localhost" {
		defs = append(defs, "127.0.1.1\t"+hostname+"\n") // so that a name that nobody else knows resolves
	}
	sorted := make([]string, 0, len(names))
	for name, addr := range names {
		sorted = append(sorted, addr+"\t"+name+"\n")
	}
	slices.Sort(sorted)
	for _, d := range append(defs, sorted...) {
		b.WriteString(d)
	}
	return b.String()
}

// within is how /etc is resolved: symlinks may lead anywhere in the image, but
// not to what is mounted over it, as /proc and /dev are.
const within = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS

// openEtc opens /etc, which it makes for an image that has none.
func (s *service) openEtc() (int, error) {
	root, err := unix.Open(s.path("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	unix.Mkdirat(root, "etc", 0o755)
	return unix.Openat2(root, "etc", &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: within,
	})
}

// replaceAt replaces a file in dir, whatever it is. It follows no symlink: what
// the name led to is left alone.
func replaceAt(dir int, name, content string, mode uint32) error {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode == unix.S_IFREG|mode {
		if old, err := readAt(dir, name); err == nil && old == content {
			return nil
		}
	}
	tmp := "." + name + ".new"
	unix.Unlinkat(dir, tmp, 0)
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = io.WriteString(f, content)
	if chmodErr := f.Chmod(os.FileMode(mode)); err == nil {
		err = chmodErr
	}
	f.Close()
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, name)
	}
	if err != nil {
		unix.Unlinkat(dir, tmp, 0)
	}
	return err
}

// createAt makes an empty file in dir, unless the name is taken. Programs that
// open resolv.conf without need find one, as in a docker without a network.
func createAt(dir int, name string, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, mode)
}

// readAt reads a regular file of dir, not through a symlink.
func readAt(dir int, name string) (string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", errNotRegular
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(b), err
}

// validAddr reports whether s looks like an IP address. The host has made it
// one; here it must but stay within its field. (Package net/netip, and unique
// with it, would take as much room as all of this file's package.)
func validAddr(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') && c != '.' && c != ':' {
			return false
		}
	}
	return strings.Contains(s, ":") || strings.Count(s, ".") == 3
}
