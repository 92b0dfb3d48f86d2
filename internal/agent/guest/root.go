package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// mountPoint is a line of a mount table.
type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	options                string
}

// mount mounts m, on a directory that it makes if need be.
func (m mountPoint) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return wire.Errorf(wire.Internal, "mounting %s: %w", m.target, cause(err))
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.options); err != nil && err != unix.EBUSY {
		return wire.Errorf(wire.Internal, "mounting %s (%s) on %s: %w", m.source, m.fstype, m.target, err)
	}
	return nil
}

const (
	baseDevice = "/dev/vda"
	diskDevice = "/dev/vdb"
	newRoot    = "/newroot"
)

// root makes the sandbox's root file system, base and disk as one overlay, and
// moves there.
func (b *boot) root() error {
	for _, drive := range []struct {
		what     string
		patience time.Duration
		mountPoint
	}{
		{"base", 10 * time.Second, mountPoint{baseDevice, "/base", "ext4", unix.MS_RDONLY, ""}},
		// Where one drive has been found, the other is not far.
		{"disk", 2 * time.Second, mountPoint{diskDevice, "/disk", "ext4", 0, "discard"}}, // what is deleted here is free on the host
	} {
		if err := awaitDevice(drive.source, drive.what, drive.patience); err != nil {
			return err
		}
		if readOnly(drive.source) {
			drive.flags, drive.options = unix.MS_RDONLY, ""
		}
		err := drive.mount()
		if errors.Is(err, unix.EINVAL) {
			return wire.Errorf(wire.Invalid, "mounting the %s: %s holds no ext4 file system", drive.what, drive.source)
		}
		if err != nil {
			return wire.Errorf(wire.CodeOf(err), "mounting the %s: %w", drive.what, err)
		}
	}
	top, lower := "/disk", []string{"/base"}
	if readOnly(diskDevice) {
		// The disk is only looked at: what is written goes to memory.
		top = "/scratch"
		if err := (mountPoint{"tmpfs", top, "tmpfs", 0, "mode=0755"}).mount(); err != nil {
			return err
		}
		if fi, err := os.Lstat("/disk/upper"); err == nil && fi.IsDir() { // else it was never booted from
			lower = []string{"/disk/upper", "/base"}
		}
	}
	if err := mountOverlay(top, lower); err != nil {
		return err
	}
	var err error
	if b.disk, err = os.Open("/disk"); err != nil {
		return wire.Errorf(wire.Internal, "opening the disk: %w", cause(err))
	}
	if !readOnly(diskDevice) && outgrown(diskDevice) { // it grew while the sandbox was stopped
		if _, err := grow(b.disk, 0); err != nil {
			b.logf("%v", err)
		}
	}
	if err := switchRoot(); err != nil {
		return err
	}
	b.furnish()
	return nil
}

// readOnly says whether a drive is.
func readOnly(device string) bool {
	return strings.TrimSpace(string(readKernel("/sys/class/block/"+filepath.Base(device)+"/ro"))) == "1"
}

// mountOverlay lays top's upper directory over lower, the uppermost first. It
// asks for renames of directories that work as on any file system; a kernel
// without that gives an overlay like docker's.
func mountOverlay(top string, lower []string) error {
	upper, work := top+"/upper", top+"/work"
	for _, dir := range []string{upper, work, newRoot} {
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return wire.Errorf(wire.Internal, "making %s: %w", dir, cause(err))
		}
	}
	// The overlay's / is the upper directory: it is as the lower one is, once.
	var st unix.Stat_t
	if emptyDir(upper) && unix.Stat(lower[0], &st) == nil {
		unix.Chown(upper, int(st.Uid), int(st.Gid))
		unix.Chmod(upper, st.Mode&0o7777)
	}
	dirs := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + work
	var err error
	for _, options := range []string{dirs + ",redirect_dir=on,metacopy=off,index=off", dirs} {
		if err = unix.Mount("overlay", newRoot, "overlay", 0, options); err == nil {
			return nil
		}
	}
	return wire.Errorf(wire.Internal, "mounting the overlay of base and disk: %w", err)
}

// awaitDevice waits for a drive that the kernel may still be looking for.
func awaitDevice(path, what string, patience time.Duration) error {
	pause := 100 * time.Microsecond
	for end := time.Now().Add(patience); ; pause = min(2*pause, 5*time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return wire.Errorf(wire.NotFound, "waiting for the %s: no %s after %v: is the drive attached, and its kernel module loaded?", what, path, patience)
		}
		time.Sleep(pause)
	}
}

// switchRoot makes newRoot the root, and gives the initramfs's memory back.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := makeMountPoint(newRoot + dir); err != nil {
			return wire.Errorf(wire.Internal, "making the mount point %s: %w", dir, cause(err))
		}
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return wire.Errorf(wire.Internal, "moving %s: %w", dir, err)
		}
	}
	old, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wire.Errorf(wire.Internal, "opening the initramfs: %w", err)
	}
	defer unix.Close(old)
	err = unix.Chdir(newRoot)
	if err == nil {
		err = unix.Mount(".", "/", "", unix.MS_MOVE, "")
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Chdir("/")
	}
	if err != nil {
		return wire.Errorf(wire.Internal, "switching root: %w", err)
	}
	emptyInitramfs(old)
	return nil
}

// makeMountPoint gives an image the directory that it lacks, in the disk. What it
// has there in its stead, a file or a link, gives way: a link followed would
// hide another directory, or lead out of the root to be.
func makeMountPoint(path string) error {
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		return nil
	}
	os.Remove(path) // else Mkdir says that it is still there
	return os.Mkdir(path, 0o755)
}

// emptyInitramfs deletes the files of the initramfs: it lives in memory.
func emptyInitramfs(root int) {
	modules, err := unix.Openat(root, "modules", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		d := os.NewFile(uintptr(modules), "modules")
		names, _ := d.Readdirnames(-1)
		for _, name := range names {
			unix.Unlinkat(modules, name, 0)
		}
		d.Close()
		unix.Unlinkat(root, "modules", unix.AT_REMOVEDIR)
	}
	unix.Unlinkat(root, "init", 0) // its memory goes when we do
}

// furnish mounts and sets the rest. An image that won't have one of them still
// runs: it is logged.
func (b *boot) furnish() {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mounts := []mountPoint{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", safe, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe, ""},
	}
	if emptyDir("/run") { // not over what the image put there
		mounts = append(mounts, mountPoint{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"})
	}
	for _, m := range mounts {
		if err := m.mount(); err != nil {
			b.logf("%v", err)
		}
	}
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
		"/dev/stderr": "/proc/self/fd/2", "/dev/core": "/proc/kcore",
	} {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			b.logf("linking %s: %v", link, err)
		}
	}
	os.Chmod("/dev/ptmx", 0o666)
	// As docker has it: any user may ping and serve any port.
	writeString("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
	writeString("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
	if err := loopbackUp(); err != nil {
		b.logf("bringing up lo: %v", err)
	}
}

func emptyDir(path string) bool {
	fi, err := os.Lstat(path)
	if err != nil || !fi.IsDir() {
		return false
	}
	d, err := os.Open(path)
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) == 0
}

// loopbackUp brings up lo; the kernel gives it its addresses.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return err
	}
	r.SetUint16(r.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// loadModules loads what dir/order names, in that order. A module that won't
// load is logged: what it is missed for will say so.
func (b *boot) loadModules(dir string) {
	for name := range strings.FieldsSeq(string(readKernel(dir + "/order"))) {
		if err := loadModule(filepath.Join(dir, name)); err != nil && err != unix.EEXIST {
			b.logf("loading module %s: %v", name, err)
		}
	}
}

func loadModule(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.FinitModule(fd, "", 0)
}

// reserveMemory keeps memory and process numbers from the processes, so that
// there always are some for the agent.
func (s *service) reserveMemory() {
	total, available := memory()
	threads, _ := strconv.Atoi(field(readKernel("/proc/sys/kernel/threads-max"), 0))
	pidMax, _ := strconv.Atoi(field(readKernel("/proc/sys/kernel/pid_max"), 0))
	pids := min(threads, pidMax)
	s.cgroups.limit(available-reserve(total), max(pids-256, pids/2))
}
