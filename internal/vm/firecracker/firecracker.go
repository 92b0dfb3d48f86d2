// Package firecracker drives Firecracker, with KVM and no other way.
//
// A machine is one Firecracker process in namespaces of its own. Everything of
// it lies in the directory jail in the machine's own, and is called the same in
// every machine: the process's working directory has fc.sock to control it,
// vsock.sock to its guest, drive0, drive1… and log. Started by root, with a
// jailer, it has that directory as its root and a user of its own; otherwise the
// names there are links. It outlives the process that started it.
package firecracker

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// Options choose among the Firecrackers of a host.
type Options struct {
	Binary string // "": as BANDSOX_FIRECRACKER says, else the one in Bin, else in PATH
	Jailer string // "": as BANDSOX_JAILER says, else likewise; without one there is no jail
	Bin    string // directory that programs were installed in; may be empty or missing
}

// New returns the driver. It starts nothing.
func New(o Options) vm.Driver { return &driver{Options: o, kvm: needKVM} }

type driver struct {
	Options

	kvm func(context.Context) error // why no guest can run, if none can

	plain sync.Map // confinements that this host doesn't let an ordinary user have
}

// Name is "firecracker".
func (d *driver) Name() string { return "firecracker" }

// Traits are what its machines have. Its drives know no discard, and a full disk
// of the host is the guest's error.
func (d *driver) Traits() vm.Traits {
	return vm.Traits{Modules: []string{"virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "overlay", "ext4"}, OnlyKVM: true, SlowConsole: true}
}

// find looks for a program by the path that was given, by what the environment
// says, where programs are installed, and in PATH.
func (d *driver) find(given, variable, name string) (string, error) {
	if given == "" {
		given = os.Getenv(variable)
	}
	if given != "" {
		return exec.LookPath(given)
	}
	if d.Bin != "" {
		if path, err := exec.LookPath(filepath.Join(d.Bin, name)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

func (d *driver) binary() (string, error) {
	path, err := d.find(d.Binary, "BANDSOX_FIRECRACKER", "firecracker")
	if err == nil {
		path, err = filepath.EvalSymlinks(path) // one that is replaced stays what it was
	}
	if err != nil {
		return "", wire.Errorf(wire.Unavailable, "finding Firecracker: %w", err).WithHint("bandsox init")
	}
	return filepath.Abs(path)
}

// jailer is the path of the jailer, "" if there is none.
func (d *driver) jailer() string {
	path, err := d.find(d.Jailer, "BANDSOX_JAILER", "jailer")
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return ""
	}
	return path
}

var program = monitor.Program{Name: "Firecracker", Line: regexp.MustCompile(`(?m)^Firecracker v(\S+)`), Install: "bandsox init --force"}

// Version asks the program, which must not be too old.
func (d *driver) Version(ctx context.Context) (string, error) {
	path, err := d.binary()
	if err != nil {
		return "", err
	}
	text, err := program.Version(ctx, path)
	if err != nil {
		return "", err
	}
	v, err := parseVersion(text)
	if err != nil {
		return "", wire.Errorf(wire.Unavailable, "running %q: %w", path, err)
	}
	if v.before(oldest) {
		return "", wire.Errorf(wire.Unavailable, "running %q: it is version %s, and %s or newer is needed", path, v, oldest).WithHint("bandsox init --force")
	}
	return text, nil
}

// needKVM says why no guest can run, if none can.
func needKVM(ctx context.Context) error {
	k := vm.ProbeKVM(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.Works {
		return nil
	}
	e := wire.Errorf(wire.Unavailable, "Firecracker needs KVM: %s", k.Reason)
	e.Hint = k.Hint
	return e
}
