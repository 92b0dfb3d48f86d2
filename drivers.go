package bandsox

import (
	"context"
	"errors"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/firecracker"
	"github.com/bandsox/bandsox/internal/vm/qemu"
)

// builtin are the drivers that there are, the one that is preferred first.
func builtin(cfg Config) []vm.Driver {
	return []vm.Driver{
		firecracker.New(firecracker.Options{Bin: store.Layout(cfg.Storage).Bin()}),
		qemu.New(qemu.Options{Accel: cfg.Accel}),
	}
}

// pickDriver finds the driver that cfg names, or the best that runs here:
// Firecracker where it is installed and KVM proves to work, else QEMU.
func pickDriver(ctx context.Context, cfg Config) (vm.Driver, error) {
	if d := vm.Provided(cfg.Driver); d != nil {
		return d, nil
	}
	all := builtin(cfg)
	for _, d := range all {
		if d.Name() == cfg.Driver {
			if cfg.Accel == "tcg" && d.Traits().OnlyKVM {
				return nil, invalid("open", "", "the driver %s has no accelerator %q", cfg.Driver, cfg.Accel)
			}
			return fleet{d, all}, nil
		}
	}
	if cfg.Driver != "" {
		return nil, invalid("open", "", "unknown driver %q: this build has firecracker and qemu", cfg.Driver)
	}
	for _, d := range all[:len(all)-1] {
		if d.Traits().OnlyKVM && cfg.Accel == "tcg" {
			continue
		}
		if _, err := d.Version(ctx); err != nil {
			continue
		}
		if !d.Traits().OnlyKVM || vm.ProbeKVM(ctx).Works {
			return fleet{d, all}, nil
		}
	}
	return fleet{all[len(all)-1], all}, nil
}

// fleet is the driver that new machines get, and those of the machines that run:
// which may be another's, from before this one was installed or named.
type fleet struct {
	vm.Driver
	all []vm.Driver
}

// Adopt asks the driver that the machine is of.
func (f fleet) Adopt(ctx context.Context, h vm.Handle) (vm.Machine, error) {
	for _, d := range f.all {
		if d.Name() == h.Driver {
			return d.Adopt(ctx, h)
		}
	}
	return f.Driver.Adopt(ctx, h)
}

// Find asks all of them.
func (f fleet) Find(ctx context.Context, dir string) (found []vm.Handle, err error) {
	for _, d := range f.all {
		of, e := d.Find(ctx, dir)
		found, err = append(found, of...), errors.Join(err, e)
	}
	return found, err
}
