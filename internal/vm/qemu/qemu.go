// Package qemu drives QEMU: its microvm machine with KVM where KVM works, and
// with emulation where it does not.
//
// A machine is one QEMU process in a session of its own, whose working
// directory is the machine's. It has two sockets there: qmp.sock to control it
// and agent.sock for the agent's byte stream. It outlives the process that
// started it.
package qemu

import (
	"context"
	"os/exec"
	"regexp"
	"sync"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// Options choose among the QEMUs of a host.
type Options struct {
	Binary string // "": the one of the host's architecture in PATH
	Accel  string // "": kvm where it works, else tcg
}

// New returns the driver. It starts nothing.
func New(o Options) vm.Driver {
	go tscKHz() // ready when the first machine boots
	return &driver{Options: o}
}

type driver struct {
	Options

	noSandbox sync.Map // binaries that have no -sandbox
}

// Name is "qemu".
func (d *driver) Name() string { return "qemu" }

// binary finds the program.
func (d *driver) binary() (string, error) {
	name := d.Binary
	if name == "" {
		name = "qemu-system-" + guest.qemu
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", wire.Errorf(wire.Unavailable, "finding QEMU %q: %w", name, err).
			WithHint("sudo apt-get install %s", guest.pack)
	}
	return path, nil
}

var program = monitor.Program{Name: "QEMU", Line: regexp.MustCompile(`version (\d[\w.+-]*)`), Install: "sudo apt-get install --reinstall " + guest.pack}

// Version asks the program.
func (d *driver) Version(ctx context.Context) (string, error) {
	path, err := d.binary()
	if err != nil {
		return "", err
	}
	return program.Version(ctx, path)
}

// accel chooses how guest code is run.
func (d *driver) accel(ctx context.Context) (string, error) {
	switch d.Accel {
	case "tcg":
		return "tcg", nil
	case "", "kvm":
	default:
		return "", wire.Errorf(wire.Invalid, "choosing QEMU's accelerator %q: want kvm or tcg", d.Accel)
	}
	k := vm.ProbeKVM(ctx)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if k.Works {
		return "kvm", nil
	}
	if d.Accel == "kvm" {
		e := wire.Errorf(wire.Unavailable, "using KVM: %s", k.Reason)
		e.Hint = k.Hint
		return "", e
	}
	return "tcg", nil
}

// Traits are what its machines have.
func (d *driver) Traits() vm.Traits {
	return vm.Traits{Discard: true, Halts: true}
}
