package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// bandsox/base is Debian's smallest system with apt, Python and the web's
// certificates: enough to run a program, and to install more.
const (
	debianSuite    = "bookworm"
	debianPackages = "python3,ca-certificates"

	// debianEpoch is the suite's release day. No file is younger, so that the
	// same packages give the same bytes whenever and wherever they are built.
	debianEpoch = "1686355200"
)

// debianExcludes keeps out what a program never reads: 50 MB. What is
// installed in a sandbox later is thinned in the same way, and quicker.
var debianExcludes = []string{
	"path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*",
	"path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/doc/*",
	"path-include=/usr/share/doc/*/copyright", "force-unsafe-io",
}

// mergedUsr makes /bin a link to /usr/bin from the start. Without it a package
// does that later, and brings all of Perl along: 47 MB.
const mergedUsr = "/usr/share/mmdebstrap/hooks/merged-usr"

// openDebian builds bandsox/base from Debian's packages.
func openDebian(ctx context.Context, r reference, o Options) (*Image, error) {
	want, err := o.platform()
	if err != nil {
		return nil, err
	}
	if err := checkPlatform("linux", runtime.GOARCH, want); err != nil {
		return nil, err
	}
	if o.Pull == PullNever {
		return nil, wire.Errorf(wire.NotFound, "it has not been built yet, and is not to be pulled").
			WithHint("bandsox image pull %s", r)
	}
	if err := debianTools(); err != nil {
		return nil, err
	}
	sources, err := o.debianSources()
	if err != nil {
		return nil, err
	}
	f, err := buildDebian(ctx, r.String(), sources, o)
	if err != nil {
		return nil, err
	}
	img, err := debianImage(f, r, o)
	if err != nil {
		f.Close()
	}
	return img, err
}

func debianImage(f *os.File, r reference, o Options) (*Image, error) {
	sum := sha256.New()
	size, err := io.Copy(sum, io.NewSectionReader(f, 0, maxLayerSize))
	if err != nil {
		return nil, scratchError(o.Scratch, err)
	}
	id := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	b := blob{name: id.String(), diffID: id, size: size, open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, 0, size)), nil
	}}
	return &Image{
		Digest: id.String(), Source: "debian", Size: size,
		Config: Config{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
			Cmd: []string{"/bin/bash"},
		},
		content: newLayered([]blob{b}, r.String(), o, f.Close),
	}, nil
}

// debianTools says what is missing on this host, before anything is tried.
func debianTools() error {
	missing := func(what, pkg string) error {
		return wire.Errorf(wire.Unavailable, "building from Debian's packages needs %s", what).
			WithHint("sudo apt-get install %s", pkg)
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return missing("mmdebstrap", "mmdebstrap")
	}
	if !exists("/usr/share/keyrings/debian-archive-keyring.gpg") {
		return missing("the keys that Debian signs with", "debian-archive-keyring")
	}
	if os.Geteuid() == 0 {
		return nil
	}
	_, uidmap := exec.LookPath("newuidmap")
	_, fakechroot := exec.LookPath("fakechroot")
	if uidmap != nil && fakechroot != nil {
		return missing("newuidmap, or to be root", "uidmap")
	}
	return nil
}

// subidsHint is for an ordinary user who has no other ids to build a system
// with: its files belong to many users.
const subidsHint = "sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER; " +
	"or have root run: bandsox image pull bandsox/base; or use an image that is here: docker-archive:FILE, oci:DIR"

// buildDebian runs mmdebstrap, and returns the tar file it writes.
func buildDebian(ctx context.Context, what string, sources []string, o Options) (*os.File, error) {
	tmp, lock, err := debianTemp(o.Scratch)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer removeDebianTemp(tmp)
	out, err := createSpool(o.Scratch)
	if err != nil {
		return nil, err
	}
	log := &debianLog{tell: func(step string) {
		if o.Progress != nil {
			o.Progress("building "+what+": "+step, 0, 0)
		}
	}}
	args := append(o.debianArgs(ctx), sources...)
	err = runContained(func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "SOURCE_DATE_EPOCH="+debianEpoch, "LC_ALL=C.UTF-8")
		cmd.Stdout, cmd.Stderr = out, log
		return cmd
	})
	if err != nil {
		out.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, log.failure(o.Scratch, err)
	}
	return out, nil
}

func (o Options) debianArgs(ctx context.Context) []string {
	include := strings.Join(append([]string{debianPackages}, o.Packages...), ",")
	args := []string{"--variant=minbase", "--format=tar"}
	if exists(mergedUsr) {
		args = append(args, "--hook-dir="+mergedUsr)
		include += ",usr-is-merged"
	}
	args = append(args, "--include="+include)
	for _, x := range debianExcludes {
		args = append(args, "--dpkgopt="+x)
	}
	for _, x := range aptOptions(ctx) {
		args = append(args, "--aptopt="+x)
	}
	// What is this host's own business doesn't go into the image.
	args = append(args, `--customize-hook=cd "$1" && rm -f etc/resolv.conf etc/hostname etc/apt/apt.conf.d/99mmdebstrap`)
	return append(args, debianSuite, "-")
}

// debianTemp makes the directory that mmdebstrap works in. As root it is where
// all temporary files go. An ordinary user's mmdebstrap works under other ids,
// which can't pass through a private directory. It is locked while this process
// lives, so that SweepBuilds knows it from what a killed one left.
func debianTemp(scratch string) (tmp string, lock *os.File, err error) {
	parent := scratch
	if os.Geteuid() != 0 {
		parent = BuildsDir
	}
	if tmp, err = os.MkdirTemp(parent, buildPrefix+"*"); err == nil {
		lock, err = lockBuild(tmp)
	}
	if err == nil {
		err = os.Chmod(tmp, 0o755)
	}
	if err != nil {
		return "", nil, scratchError(parent, err)
	}
	return tmp, lock, nil
}

func removeDebianTemp(tmp string) {
	if os.RemoveAll(tmp) == nil || os.Geteuid() == 0 {
		return
	}
	// What is left belongs to the other ids.
	exec.Command("mmdebstrap", "--unshare-helper", "sh", "-c", `rm -rf "$1"/*`, "sh", tmp).Run()
	os.RemoveAll(tmp)
}

// runContained runs a command so that nothing of it outlives it: no process,
// and no mount. As root that is a namespace for each; an ordinary user's
// mmdebstrap makes them itself, and gets time to tidy up.
func runContained(command func() *exec.Cmd) error {
	// A parent-death signal is sent when the thread that forked ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Geteuid() == 0 {
		cmd := command()
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
		}
		if err := cmd.Run(); !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
		// Root in a container that may not do this; go on without.
	}
	cmd := command()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return err
}

// debianLog reads what mmdebstrap says: steps for people who wait, and the
// last lines for when it fails.
type debianLog struct {
	tell func(step string)
	line []byte
	last []string
}

// Lines kept of mmdebstrap's output, and the longest.
const (
	keptLines = 12
	keptBytes = 400
)

func (l *debianLog) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case c == '\n' || c == '\r':
			l.end()
		case len(l.line) < keptBytes:
			l.line = append(l.line, c)
		}
	}
	return len(p), nil
}

func (l *debianLog) end() {
	line := strings.TrimSpace(string(l.line))
	l.line = l.line[:0]
	if line == "" || strings.HasSuffix(line, "%]") {
		return
	}
	if step, ok := strings.CutPrefix(line, "I: "); ok {
		if strings.HasSuffix(step, "...") && !strings.Contains(step, "tempdir") && !strings.Contains(step, "signal") {
			l.tell(strings.TrimSuffix(step, "..."))
		}
		return
	}
	l.last = append(l.last, line)
	l.last = l.last[max(0, len(l.last)-keptLines):]
}

func (l *debianLog) failure(scratch string, err error) error {
	l.end()
	said := strings.Join(l.last, "\n")
	// The first error is the cause, the others follow from it.
	why := strings.Join(append(l.last, err.Error()), "; ")
	for _, line := range l.last {
		if cause, ok := strings.CutPrefix(line, "E: "); ok {
			why = cause
			break
		}
	}
	code, hint := wire.Unavailable, "mmdebstrap --variant=minbase "+debianSuite+" /dev/null"
	switch {
	case strings.Contains(said, "No space left on device"):
		code, hint = wire.Exhausted, "df -h "+scratch
	case strings.Contains(said, "unable to pick chroot mode automatically"):
		hint = subidsHint
	case strings.Contains(said, "Failed to fetch"):
		hint = "check that Debian's mirror can be reached (apt-get update), or name another: BANDSOX_DEBIAN_MIRROR"
	}
	return wire.Errorf(code, "mmdebstrap failed: %s", why).WithHint("%s", hint)
}
