package monitor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// Program is a monitor's program, as a driver asks it for its version.
type Program struct {
	Name    string         // QEMU, Firecracker
	Line    *regexp.Regexp // of what --version prints, the version as its first group
	Install string         // the command that puts it right

	versions sync.Map // by programKey
}

// programKey is one program at one time: it may be replaced by a newer one.
type programKey struct {
	path  string
	size  int64
	mtime time.Time
}

// Version is that of the program at path, which is asked once for each that there is.
func (p *Program) Version(ctx context.Context, path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", wire.Errorf(wire.Unavailable, "finding %s: %w", p.Name, err)
	}
	key := programKey{path, st.Size(), st.ModTime()}
	if v, ok := p.versions.Load(key); ok {
		return v.(string), nil
	}
	v, err := p.ask(ctx, path)
	if err == nil {
		p.versions.Store(key, v)
	}
	return v, err
}

func (p *Program) ask(ctx context.Context, path string) (string, error) {
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = Environ()
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) && len(ee.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(ee.Stderr)))
		}
		return "", wire.Errorf(wire.Unavailable, "running %q: %w", path, err).WithHint("%s", p.Install)
	}
	m := p.Line.FindSubmatch(out)
	if m == nil {
		return "", wire.Errorf(wire.Unavailable, "running %q: it is not %s: %.80q", path, p.Name, out)
	}
	return string(m[1]), nil
}
