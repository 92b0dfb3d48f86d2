package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

func fake(t *testing.T) *service {
	t.Helper()
	return newService(ServeConfig{Fake: true, Root: t.TempDir(), Log: t.Logf})
}

func (s *service) has(t *testing.T, name, want string) {
	t.Helper()
	if b, err := os.ReadFile(s.path("/etc/" + name)); err != nil || string(b) != want {
		t.Errorf("/etc/%s: %q, %v, want %q", name, b, err, want)
	}
}

func TestIdentity(t *testing.T) {
	s := fake(t)
	id := wire.Identity{
		Hostname: "one", MachineID: strings.Repeat("0f", 16), DNS: []string{"10.0.0.1", "fd00::1"},
		Hosts: map[string]string{"peer": "10.0.0.2", "alt": "10.0.0.3"},
	}
	if err := s.identify(&id); err != nil {
		t.Fatal(err)
	}
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	s.has(t, "hostname", "one\n")
	s.has(t, "hosts", local+"127.0.1.1\tone\n10.0.0.2\tpeer\n10.0.0.3\talt\n")
	s.has(t, "machine-id", id.MachineID+"\n")
	s.has(t, "resolv.conf", "nameserver 10.0.0.1\nnameserver fd00::1\n")

	// The user's own lines stay, what was ours goes, nothing is there twice.
	hosts := s.path("/etc/hosts")
	b, _ := os.ReadFile(hosts)
	os.WriteFile(hosts, append(b, "1.2.3.4 mine # peer\n"...), 0o644)
	if err := s.identify(&wire.Identity{Hostname: "two", Hosts: map[string]string{"two": "10.0.0.9"}}); err != nil {
		t.Fatal(err)
	}
	s.has(t, "hosts", local+"1.2.3.4 mine # peer\n10.0.0.9\ttwo\n")
	s.has(t, "resolv.conf", "nameserver 10.0.0.1\nnameserver fd00::1\n") // empty leaves it
	if left, _ := filepath.Glob(s.path("/etc") + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Without nameservers there is an empty resolv.conf, or the one that was there.
func TestIdentityWithoutDNS(t *testing.T) {
	id := wire.Identity{Hostname: "one"}
	s := fake(t)
	if err := s.identify(&id); err != nil {
		t.Fatal(err)
	}
	s.has(t, "resolv.conf", "")
	if fi, err := os.Lstat(s.path("/etc/resolv.conf")); err != nil || fi.Mode() != 0o644 {
		t.Errorf("%v, %v", fi, err)
	}
	s = fake(t)
	os.Mkdir(s.path("/etc"), 0o755)
	os.Symlink("../run/stub", s.path("/etc/resolv.conf"))
	if err := s.identify(&id); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(s.path("/etc/resolv.conf")); err != nil || to != "../run/stub" {
		t.Errorf("the image's link: %q, %v", to, err)
	}
	if _, err := os.Lstat(s.path("/run")); err == nil {
		t.Error("the link was followed")
	}
}

func TestBadIdentity(t *testing.T) {
	for _, id := range []wire.Identity{
		{Hostname: "a b"}, {Hostname: "a\nb"}, {Hostname: strings.Repeat("a", 65)}, {Hostname: ".."},
		{MachineID: "xyz"}, {MachineID: strings.Repeat("A", 32)},
		{DNS: []string{"1.1.1.1\nnameserver 6.6.6.6"}}, {DNS: []string{"dns.example"}},
		{Hosts: map[string]string{"a b": "10.0.0.1"}}, {Hosts: map[string]string{"a": "b"}}, {Hosts: map[string]string{"": "10.0.0.1"}},
	} {
		s := fake(t)
		if err := s.identify(&id); wire.CodeOf(err) != wire.Invalid {
			t.Errorf("%+v: %v", id, err)
		}
		if _, err := os.Stat(s.path("/etc")); err == nil {
			t.Errorf("%+v changed something", id)
		}
	}
}

// A hostile image can't have us write, read or wait anywhere else.
func TestIdentityInAHostileImage(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	os.WriteFile(outside, []byte("precious"), 0o644)
	id := wire.Identity{Hostname: "box", MachineID: strings.Repeat("0f", 16), DNS: []string{"10.0.0.1"}}
	for name, prepare := range map[string]func(etc string){
		"symlinks out": func(etc string) {
			os.Mkdir(etc, 0o755)
			for _, f := range []string{"hostname", "hosts", "machine-id", "resolv.conf", ".hosts.new", ".hostname.new"} {
				os.Symlink(outside, etc+"/"+f)
			}
		},
		"fifos": func(etc string) {
			os.Mkdir(etc, 0o755)
			unix.Mkfifo(etc+"/hosts", 0o666)
			unix.Mkfifo(etc+"/hostname", 0o666)
		},
		"etc leads out":        func(etc string) { os.Symlink(filepath.Dir(outside), etc) },
		"etc leads to /proc":   func(etc string) { os.Symlink("/proc/self/cwd", etc) },
		"etc leads to itself":  func(etc string) { os.Symlink("etc", etc) },
		"etc is a file":        func(etc string) { os.WriteFile(etc, nil, 0o644) },
		"directories":          func(etc string) { os.MkdirAll(etc+"/hosts/x", 0o755); os.MkdirAll(etc+"/.hosts.new/x", 0o755) },
		"a hosts file of 2 MB": func(etc string) { os.Mkdir(etc, 0o755); os.WriteFile(etc+"/hosts", make([]byte, 2<<20), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t)
			prepare(s.path("/etc"))
			if err := s.identify(&id); err != nil {
				t.Error(err)
			}
			if b, _ := os.ReadFile(outside); string(b) != "precious" {
				t.Errorf("the file outside is now %q", b)
			}
			if entries, _ := os.ReadDir(filepath.Dir(outside)); len(entries) != 1 {
				t.Errorf("files outside: %v", entries)
			}
			if name == "symlinks out" || name == "fifos" {
				s.has(t, "hostname", "box\n")
			}
		})
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n1.2.3.4 a b # c\n", "box", "peer")
	f.Add("::1", "localhost", "")
	f.Add("\x00\n\n#\n a", "b", "a")
	f.Fuzz(func(t *testing.T, old, hostname, peer string) {
		if !validHost(hostname) || !validHost(peer) {
			t.Skip("needs names of hosts: these are none")
		}
		names := map[string]string{peer: "10.0.0.2"}
		once := hosts(old, hostname, names, nil)
		if twice := hosts(once, hostname, names, nil); twice != once {
			t.Errorf("not the same again:\n%q\n%q", once, twice)
		}
		if !strings.Contains(once, "10.0.0.2\t"+peer+"\n") {
			t.Errorf("%q lacks %q", once, peer)
		}
	})
}
