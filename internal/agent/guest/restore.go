package guest

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// A guest that is about to be saved is frozen: no program of it runs until it is
// told who it is. So a restored one has another machine's name, clock and
// randomness before any program can ask, and never draws what a sibling draws.

const (
	// thawAfter is when programs go on although nobody said so: the host that
	// froze them may have died. A stopped guest's time stands still.
	thawAfter = 10 * time.Second
	// freezePatience is how long programs are waited for that the kernel can't
	// stop at once, for they wait for a disk, say. Then the others are frozen.
	freezePatience = 100 * time.Millisecond
	// hookPatience is how long those in restoreHooks are waited for, in all.
	hookPatience = 2 * time.Second
	// restoreHooks holds programs of the image's, or the user's, to be run in each
	// machine that was restored, in the order of their names.
	restoreHooks = "/etc/bandsox/restore.d"
)

const bootIDPath = "/proc/sys/kernel/random/boot_id"

// freeze stops all programs.
func (s *service) freeze(r *wire.FreezeRequest) error {
	if r.Sync && !s.cfg.Fake {
		unix.Sync()
	}
	if s.cgroups == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thawing != nil {
		s.thawing.Stop()
	}
	if err := writeString(filepath.Join(s.cgroups.dir, "cgroup.freeze"), "1"); err != nil {
		return wire.Errorf(wire.Internal, "freezing the guest's programs: %w", err)
	}
	s.thawing = time.AfterFunc(thawAfter, s.thaw)
	for end := time.Now().Add(freezePatience); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if strings.Contains(string(readKernel(filepath.Join(s.cgroups.dir, "cgroup.events"))), "frozen 1") {
			break
		}
	}
	return nil
}

// frozen says whether they are. Then a session that breaks may be that of the
// machine that this one is a copy of.
func (s *service) frozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thawing != nil
}

// thaw lets them go on, if they are frozen.
func (s *service) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.thawing == nil {
		return
	}
	s.thawing.Stop()
	s.thawing = nil
	if err := writeString(filepath.Join(s.cgroups.dir, "cgroup.freeze"), "0"); err != nil {
		s.log("letting the guest's programs go on: %v", err)
	}
}

// restored makes a guest that goes on where another was one of its own. Its
// clock and randomness it has from the hello.
func (s *service) restored() {
	if !s.cfg.Fake {
		if err := renewBootID(); err != nil {
			s.log("changing the boot's id: %v", err)
		}
	}
}

// renewBootID covers the kernel's with another, in a file system of its own that
// no program can reach otherwise.
func renewBootID() error {
	id := readKernel("/proc/sys/kernel/random/uuid") // another one at each look
	const dir = "/dev/.boot-id"
	if err := (mountPoint{"tmpfs", dir, "tmpfs", unix.MS_NOEXEC | unix.MS_NODEV | unix.MS_NOSUID, "mode=0755,size=4k"}).mount(); err != nil {
		return err
	}
	defer func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		unix.Rmdir(dir)
	}()
	if err := os.WriteFile(dir+"/id", id, 0o444); err != nil {
		return cause(err)
	}
	for unix.Unmount(bootIDPath, unix.MNT_DETACH) == nil { // an earlier restore's
	}
	return unix.Mount(dir+"/id", bootIDPath, "", unix.MS_BIND, "")
}

// runHooks runs what the sandbox wants done after a restore, one after the
// other. It returns when they have ended, or after a while.
func (s *service) runHooks() {
	entries, err := os.ReadDir(s.path(restoreHooks))
	if err != nil || len(entries) == 0 {
		return
	}
	over := make(chan struct{})
	s.wg.Go(func() {
		defer close(over)
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
				continue
			}
			p, v, err := s.start(&wire.StartRequest{Argv: []string{filepath.Join(restoreHooks, e.Name())}})
			if err != nil {
				s.log("running what is to be run after a restore: %v", err)
				continue
			}
			v.close()
			<-p.over
		}
	})
	select {
	case <-over:
	case <-time.After(hookPatience):
		s.log("%s: after %v its programs still run", restoreHooks, hookPatience)
	}
}
