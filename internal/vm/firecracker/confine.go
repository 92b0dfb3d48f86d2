package firecracker

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// confinement is what a Firecracker is kept in beside its own system call
// filters: as root the jailer, and namespaces; as another user the namespaces
// that a user may have.
type confinement struct {
	jailer string // its path, "" for none
	userNS bool
}

var errNoNamespaces = errors.New("this host lets an ordinary user have no namespaces")

// confinement is what this host can do.
func (d *driver) confinement() confinement {
	if os.Geteuid() == 0 {
		return confinement{jailer: d.jailer()}
	}
	c := confinement{userNS: true}
	if _, no := d.plain.Load(c); no {
		c.userNS = false
	}
	return c
}

// Confinement says what a Firecracker of these options is kept in here, and what
// of that this host or this user lacks; the hint of lacks is what to do.
func Confinement(o Options) (has string, lacks error) {
	d := &driver{Options: o}
	root, missing, hint := os.Geteuid() == 0, []string{}, ""
	switch {
	case !root:
		missing, hint = append(missing, "a user and a root directory of its own, and limits: for these it takes root"), "run bandsox as root"
	case d.jailer() == "":
		missing, hint = append(missing, "a user and a root directory of its own: there is no jailer"), "bandsox init"
	}
	if root && !hasLimits() {
		missing = append(missing, "limits: there is no cgroup v2 with cpu, memory and pids at "+filepath.Dir(groupDir))
	}
	if len(missing) > 0 {
		e := wire.Errorf(wire.Unavailable, "machines lack %s", strings.Join(missing, "; "))
		e.Hint = hint
		return "", e
	}
	return "each machine has a user, a root directory, namespaces and limits of its own", nil
}

// command is what is started. The jailer becomes Firecracker, in its process.
func (j *jail) command(binary string, c confinement) []string {
	args := []string{"--api-sock", apiSocket, "--log-path", logFile, "--level", "Info"}
	if c.jailer == "" {
		return append([]string{binary, "--id", j.id}, args...)
	}
	user := strconv.Itoa(j.slot.uid())
	return append([]string{c.jailer, "--id", j.id, "--exec-file", binary, "--uid", user, "--gid", user,
		"--chroot-base-dir", j.base, "--resource-limit", "no-file=1024", "--"}, args...)
}

// attributes are what the kernel gives the process when it starts: namespaces,
// and its place in a control group. So it has its limits before its first
// instruction, and its exit status comes to us.
type attributes struct {
	attr  *syscall.SysProcAttr
	group *os.File
}

func (a attributes) close() {
	if a.group != nil {
		_ = a.group.Close()
	}
}

func (j *jail) attributes(c confinement) (a attributes, err error) {
	a.attr = &syscall.SysProcAttr{}
	const spaces = unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS
	switch {
	case j.slot != nil:
		a.attr.Cloneflags = spaces
		if a.group, err = j.slot.openGroup(); err != nil {
			return a, err
		}
		if a.group != nil {
			a.attr.UseCgroupFD, a.attr.CgroupFD = true, int(a.group.Fd())
		}
	case c.userNS:
		a.attr.Cloneflags = spaces | unix.CLONE_NEWUSER
		a.attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	return a, nil
}

// checkStatic refuses a program that can't run in a jail, where there are no
// libraries.
func checkStatic(binary string) error {
	f, err := elf.Open(binary)
	if err != nil {
		return wire.Errorf(wire.Unavailable, "reading %q: %w", binary, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return wire.Errorf(wire.Unavailable, "%q needs libraries, which a jail has not: use a released Firecracker", binary).WithHint("bandsox init --force")
		}
	}
	return nil
}
