package guest

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bandsox/bandsox/internal/wire"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// spec is a StartRequest with every question answered.
type spec struct {
	path  string // what to execute
	argv  []string
	env   []string
	dir   string
	shown string // dir, as the guest calls it
	id    ident
}

// resolve answers them in the guest as it is now: its users, its files, the
// PATH of the process itself.
func (s *service) resolve(r *wire.StartRequest) (*spec, error) {
	argv := r.Argv
	if r.Shell != "" {
		if len(argv) > 0 {
			return nil, wire.Errorf(wire.Invalid, "starting a process: both argv and shell are given")
		}
		argv = []string{"/bin/sh", "-c", r.Shell}
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, wire.Errorf(wire.Invalid, "starting a process: no command is given")
	}
	for _, a := range argv {
		if strings.Contains(a, "\x00") {
			return nil, wire.Errorf(wire.Invalid, "starting %q: a NUL byte in an argument", argv[0])
		}
	}
	id, err := lookupUser(r.User, s.readSmall("/etc/passwd"), s.readSmall("/etc/group"))
	if err != nil {
		return nil, err
	}
	env, err := s.environ(r, id)
	if err != nil {
		return nil, err
	}
	dir, err := s.workdir(r.Dir, r.NeedDir)
	if err != nil {
		return nil, err
	}
	path, err := lookPath(argv[0], dir, env)
	if err != nil {
		if r.Shell != "" && wire.CodeOf(err) == wire.NotFound {
			return nil, wire.Errorf(wire.NotFound, "starting a shell command: there is no /bin/sh in this image").
				WithHint("give the program and its arguments instead")
		}
		return nil, err
	}
	return &spec{path: path, argv: argv, env: env, dir: dir, shown: cmp.Or(r.Dir, "/"), id: id}, nil
}

// environ is docker's defaults, then the request's: its last of a name counts.
func (s *service) environ(r *wire.StartRequest, id ident) ([]string, error) {
	s.mu.Lock()
	hostname := s.hostname
	s.mu.Unlock()
	if hostname == "" {
		hostname, _ = os.Hostname()
	}
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname, "HOME=" + id.home}
	if r.TTY != nil {
		env = append(env, "TERM=xterm")
	}
	for _, kv := range r.Env {
		if err := checkEnv(kv); err != nil {
			return nil, err
		}
		env = setenv(env, kv)
	}
	return env, nil
}

func checkEnv(kv string) error {
	if strings.IndexByte(kv, '=') < 1 || strings.Contains(kv, "\x00") {
		return wire.Errorf(wire.Invalid, "setting the environment: %q is not KEY=value", kv)
	}
	return nil
}

func setenv(env []string, kv string) []string {
	key := kv[:strings.IndexByte(kv, '=')+1]
	for i := range env {
		if strings.HasPrefix(env[i], key) {
			env[i] = kv
			return env
		}
	}
	return append(env, kv)
}

// workdir is made when it isn't there, as docker does for WORKDIR, unless it was
// asked for by name.
func (s *service) workdir(dir string, need bool) (string, error) {
	if dir == "" {
		dir = "/"
	}
	path := s.path(dir)
	if need {
		fi, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", wire.Errorf(wire.NotFound, "starting in %q: there is no such directory", dir)
		case err == nil && fi.IsDir():
			return path, nil
		}
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
			return "", wire.Errorf(wire.Invalid, "starting in %q: it is not a directory", dir)
		}
		return "", fileError("making the working directory", dir, err)
	}
	return path, nil
}

// lookPath finds name as a shell does: in the directories of PATH, unless it
// has a slash. not_found is a shell's 127, invalid its 126.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(dir, name)
		}
		return path, executable(name, path)
	}
	list := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v
		}
	}
	var denied error
	for _, d := range filepath.SplitList(list) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		path := filepath.Join(d, name)
		err := executable(name, path)
		if err == nil {
			return path, nil
		}
		if wire.CodeOf(err) == wire.Invalid && denied == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", wire.Errorf(wire.NotFound, "starting %q: no such program in the guest's PATH", name)
}

func executable(name, path string) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return wire.Errorf(wire.NotFound, "starting %q: no such file in the guest", name)
	case err != nil:
		return wire.Errorf(wire.Invalid, "starting %q: %w", name, cause(err))
	case fi.IsDir():
		return wire.Errorf(wire.Invalid, "starting %q: it is a directory", name)
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return wire.Errorf(wire.Invalid, "starting %q: it is not executable", name)
	}
	return nil
}

// startError says what a failed fork or exec means.
func startError(sp *spec, err error) error {
	name := sp.argv[0]
	switch {
	case errors.Is(err, syscall.ENOENT):
		return wire.Errorf(wire.NotFound, "starting %q: the interpreter or loader that it names is missing", name)
	case errors.Is(err, syscall.EACCES):
		return wire.Errorf(wire.Invalid, "starting %q in %q: user %d may not: %w", name, sp.dir, sp.id.uid, err)
	case errors.Is(err, syscall.ENOEXEC):
		return wire.Errorf(wire.Invalid, "starting %q: not a program for this machine: %w", name, err)
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE):
		return wire.Errorf(wire.Exhausted, "starting %q: the guest is out of processes or memory: %w", name, err)
	}
	return wire.Errorf(wire.Invalid, "starting %q: %w", name, err)
}

// maxSmall bounds the files of the guest that are read whole.
const maxSmall = 4 << 20

// readSmall reads a file of the guest; what can't be read is empty.
func (s *service) readSmall(path string) []byte {
	f, err := openRegular(s.path(path))
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxSmall))
	return b
}
