package guest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Version of the agent, set by the linker.
var Version = "dev"

const cgroupDir = "/sys/fs/cgroup/bandsox"

// Main is the agent's whole life as PID 1 of a guest. It does not return there:
// the machine ends. Anywhere else it refuses to run.
func Main() int {
	if os.Getpid() != 1 {
		os.Stderr.WriteString("bandsox-agent: runs as PID 1 of a BandSox sandbox and nowhere else\n")
		return 125
	}
	// The agent shares its memory with the programs that it serves.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(32 << 20)
	runtime.GOMAXPROCS(min(runtime.NumCPU(), 2))
	unix.Umask(0o022)
	os.Clearenv()
	surviveSignals()

	b := &boot{start: time.Now(), kmsg: -1}
	cfg := ServeConfig{Version: Version, Log: b.logf, Greeted: func() { b.vigil.greeted.Store(true) }}
	b.vigil.at("mounting the kernel's file systems and loading modules")
	go b.vigil.run(func(msg string) { b.logAt(3, msg) }, time.Tick(vigilEvery))
	if err := b.early(); err != nil {
		b.fail(&cfg, err)
	}
	b.vigil.at("looking for the port to the host")
	port, portErr := b.openPort()
	b.vigil.at("putting the root file system together")
	if cfg.Failure == nil {
		if err := b.root(); err != nil {
			b.fail(&cfg, err)
		} else {
			cfg.Cgroup, cfg.Disk = cgroupDir, b.disk
		}
	}
	if portErr != nil {
		b.fail(&cfg, portErr)
		b.halt()
	}
	b.vigil.at("setting up its service")
	s := newService(cfg)
	if s.cgroups != nil {
		s.reserveMemory()
		go s.watchMemory()
	}
	go s.reaper.run(context.Background())
	b.vigil.at("waiting for the host to say hello")
	b.logf("ready after %v", time.Since(b.start).Round(time.Millisecond))
	err := port.serve(s)
	if err != nil {
		b.logf("serving the host: %v", err)
	}
	b.halt()
	return 1
}

// surviveSignals catches all that can be caught: the kernel spares PID 1 what it
// has no handler for, but the Go runtime has handlers, which end the program.
// Ignoring them instead would be inherited.
func surviveSignals() {
	var all []os.Signal
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if sig != unix.SIGURG { // the runtime's own, many times a second
			all = append(all, sig)
		}
	}
	signal.Notify(make(chan os.Signal, 1), all...)
}

// boot is what the way from the kernel to a served sandbox needs to remember.
type boot struct {
	start   time.Time
	kmsg    int // /dev/kmsg, or -1
	logging sync.Mutex
	words   map[string]string // bandsox.* of the kernel's command line
	vigil   vigil
	disk    *os.File // the disk's file system, to grow it and to end it well
}

// logf writes to the kernel's log, which never blocks and ends on the console.
func (b *boot) logf(format string, args ...any) {
	b.logAt(6, fmt.Sprintf(format, args...))
}

// logAt logs at one of the kernel's levels; 3, an error, shows on the console
// of a guest that boots quietly. The log is opened once: /dev is the guest's.
func (b *boot) logAt(level int, msg string) {
	b.logging.Lock()
	defer b.logging.Unlock()
	if b.kmsg < 0 {
		b.kmsg, _ = unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(msg), "\n") {
		unix.Write(b.kmsg, []byte("<"+strconv.Itoa(level)+">bandsox: "+line[:min(len(line), 800)]))
	}
}

// fail remembers that this guest can't work. The host is told at its hello,
// and who reads the console, now.
func (b *boot) fail(cfg *ServeConfig, err error) {
	cfg.Failure = asError(err)
	b.logAt(3, err.Error())
}

// early brings up what the agent itself needs: its descriptors, the kernel's
// file systems, modules.
func (b *boot) early() error {
	for _, m := range []mountPoint{
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	b.words = commandLine(string(readKernel("/proc/cmdline")))
	raiseLimits()
	b.loadModules("/modules")
	stdio() // now that the console has its driver: what kills the agent shows there
	return nil
}

// stdio makes 0 to 2 valid: /dev/null to read, the console to write. The Go
// runtime would have died without any; what it opened itself is replaced.
func stdio() {
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		return
	}
	out, err := unix.Open("/dev/console", unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		out = null
	}
	for fd, from := range []int{null, out, out} {
		unix.Dup3(from, fd, 0)
	}
	for _, fd := range []int{null, out} {
		if fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// commandLine returns the words that begin with "bandsox.", without that.
func commandLine(s string) map[string]string {
	words := map[string]string{}
	for w := range strings.FieldsSeq(s) {
		if w, ok := strings.CutPrefix(w, "bandsox."); ok {
			key, value, _ := strings.Cut(w, "=")
			words[key] = value
		}
	}
	return words
}

// raiseLimits gives the processes the open files that servers expect. Setting
// it through package syscall makes Go hand it on.
func raiseLimits() {
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 65536, Max: 1 << 20})
}

// halt ends the machine. It is what a crashed agent leads to, as well: the
// kernel panics when PID 1 dies, and panic=-1 restarts, which ends the machine.
func (b *boot) halt() {
	// Mounted read-only, the disk's journal is empty: nothing to recover next time.
	unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if b.disk != nil {
		unix.Mount("", "/proc/self/fd/"+strconv.Itoa(int(b.disk.Fd())), "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_RESTART
	if b.words["halt"] == "poweroff" {
		how = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	unix.Reboot(how)
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	for {
		time.Sleep(time.Hour)
	}
}
