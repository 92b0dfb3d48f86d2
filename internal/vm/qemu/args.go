package qemu

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

const (
	qmpSocket   = "qmp.sock"
	agentSocket = "agent.sock"
	// The virtio-serial port, by its name in the guest. As an argument it also
	// tells our processes from others.
	agentMark = "virtserialport,chardev=agent,nr=1,name=bandsox.agent"

	consoleRing = 128 << 10 // what a guest printed that nobody has read yet; powers of two
	earlyRing   = 16 << 10
)

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// checkSpec refuses what QEMU would take for something else.
func checkSpec(s vm.Spec) error {
	switch {
	case !validID.MatchString(s.ID):
		return wire.Errorf(wire.Invalid, "booting machine %q: its id must be of letters, digits, '-', '_' and '.'", s.ID)
	case s.VCPU < 1 || s.VCPU > 255:
		return wire.Errorf(wire.Invalid, "booting machine %q: %d CPUs: want 1 to 255", s.ID, s.VCPU)
	case s.MemMiB < 64 || s.MemMiB > 4<<20:
		return wire.Errorf(wire.Invalid, "booting machine %q: %d MiB of memory: want 64 or more", s.ID, s.MemMiB)
	case len(s.Drives) > 6: // microvm has eight places, and the serial ports and a network take two
		return wire.Errorf(wire.Invalid, "booting machine %q: %d drives: want 6 at most", s.ID, len(s.Drives))
	}
	return nil
}

// machineName is what tells our processes from others.
func machineName(id string) string { return "bandsox-" + id }

// arguments is the command line. The sockets are inherited: qmpFD and agentFD
// are what the listeners are called in the new process.
func (l *launch) arguments(qmpFD, agentFD int) []string {
	a := []string{
		"-name", "guest=" + machineName(l.ID) + ",debug-threads=on",
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", guest.machine + ",memory-backend=ram",
		"-cpu", guest.cpu[l.accel],
		"-smp", strconv.Itoa(l.VCPU),
		"-m", strconv.Itoa(l.MemMiB),
		"-object", l.ram(),
	}
	if l.memory == "" {
		a = append(a, "-kernel", l.Kernel, "-append", kernelWords(l.Spec, l.accel))
		if l.Initrd != "" {
			a = append(a, "-initrd", l.Initrd)
		}
	}
	if l.accel == "tcg" {
		// The default cache of translated code is an eighth of the host's memory.
		a = append(a, "-accel", "tcg,tb-size=128")
	} else {
		a = append(a, "-accel", l.accel)
	}
	// A guest that powers off, restarts or panics leaves QEMU stopped, so that
	// its last words can be read.
	a = append(a, "-action", "reboot=shutdown,shutdown=pause,panic=shutdown",
		"-global", "virtio-mmio.force-legacy=false",
		"-chardev", socketFD("qmp", qmpFD), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("ringbuf,id=early,size=%d", earlyRing))
	a = append(a, guest.early...)
	a = append(a,
		"-device", "virtio-serial-device,max_ports=2",
		"-chardev", fmt.Sprintf("ringbuf,id=console,size=%d", consoleRing),
		"-device", "virtconsole,chardev=console,nr=0",
		"-chardev", socketFD("agent", agentFD),
		"-device", agentMark)
	return append(a, drives(l.Drives)...)
}

// ram is the guest's memory: in no core dump, and never merged with another
// guest's, which would let one time what is in the other.
func (l *launch) ram() string {
	if l.memory == "" {
		return fmt.Sprintf("memory-backend-ram,id=ram,size=%dM,dump=off,merge=off", l.MemMiB)
	}
	// Only JSON takes a path with a comma.
	object, _ := json.Marshal(map[string]any{"qom-type": "memory-backend-file", "id": "ram",
		"size": int64(l.MemMiB) << 20, "mem-path": l.memory, "share": false, "dump": false, "merge": false})
	return string(object)
}

// incoming has the devices' state read from an inherited descriptor. It was not
// written by a migration, so that some of what one begins with is missing.
func incoming(fd int) []string {
	return []string{"-global", "migration.send-configuration=off", "-incoming", "fd:" + strconv.Itoa(fd)}
}

// drives attaches them. The guest's flushes reach the host's disk; what it
// deletes is freed there. When the host's disk is full the guest is stopped, as
// if time stood still, until there is room: told of an error instead, its file
// system would give up and take what was written with it.
func drives(ds []vm.Drive) (a []string) {
	for i, d := range ds {
		id := driveName(i)
		node, _ := json.Marshal(map[string]any{ // JSON: a path may hold commas
			"driver": "file", "node-name": id, "filename": d.Path,
			"read-only": d.ReadOnly, "discard": "unmap",
		})
		a = append(a, "-blockdev", string(node),
			"-device", "virtio-blk-device,drive="+id+",rerror=report,werror=enospc")
	}
	return a
}

func driveName(i int) string { return "drive" + strconv.Itoa(i) }

func socketFD(id string, fd int) string {
	return fmt.Sprintf("socket,id=%s,fd=%d,server=on,wait=off", id, fd)
}

// kernelWords is the kernel's command line.
func kernelWords(s vm.Spec, accel string) string {
	words := append([]string{"console=hvc0", guest.console, "reboot=t"}, monitor.GuestWords...)
	if khz := tscKHz(); accel == "tcg" && khz > 0 {
		// The guest's TSC is the host's own. Its watchdog has but jiffies to hold
		// it against, which lag on a busy host, and would distrust the better of the two.
		words = append(words, "tsc_early_khz="+strconv.FormatUint(khz, 10), "tsc=reliable")
	}
	if s.Append != "" {
		words = append(words, s.Append)
	}
	return strings.Join(words, " ")
}

// sandboxArgs deny QEMU what it never needs, should a guest break out into it.
var sandboxArgs = []string{"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"}
