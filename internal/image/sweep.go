package image

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// BuildsDir is where an ordinary user's bandsox/base is built.
const BuildsDir = "/var/tmp"

const buildPrefix = "bandsox-base-"

// lockBuild takes the lock of a build's directory; closing the file gives it
// up, and so does the end of the process.
func lockBuild(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// SweepBuilds removes what killed builds of bandsox/base, this user's or, for
// root, anybody's, left in dir, and returns the paths; with dryRun it only does that.
func SweepBuilds(dir string, dryRun bool) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, buildPrefix+"*"))
	if err != nil {
		return nil, err
	}
	var dead []string
	for _, path := range paths {
		st, err := os.Lstat(path)
		if err != nil || !st.IsDir() {
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || os.Geteuid() != 0 && int(sys.Uid) != os.Geteuid() {
			continue
		}
		lock, err := lockBuild(path)
		if err != nil {
			continue // it is being built
		}
		if dead = append(dead, path); !dryRun {
			removeDebianTemp(path)
		}
		lock.Close()
	}
	return dead, nil
}
