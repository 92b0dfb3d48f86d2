package firecracker

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// guestCID is every guest's: each Firecracker has a vsock of its own.
const guestCID = 3

var validID = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// checkSpec refuses what Firecracker or its jailer would.
func checkSpec(s vm.Spec) error {
	switch {
	case !validID.MatchString(s.ID):
		return wire.Errorf(wire.Invalid, "booting machine %q: its id must be of letters, digits and '-', 64 at most", s.ID)
	case s.VCPU < 1 || s.VCPU > 32:
		return wire.Errorf(wire.Invalid, "booting machine %q: %d CPUs: want 1 to 32", s.ID, s.VCPU)
	case s.MemMiB < 64 || s.MemMiB > 4<<20:
		return wire.Errorf(wire.Invalid, "booting machine %q: %d MiB of memory: want 64 or more", s.ID, s.MemMiB)
	case len(s.Drives) > 8: // of 17 places for devices on x86
		return wire.Errorf(wire.Invalid, "booting machine %q: %d drives: want 8 at most", s.ID, len(s.Drives))
	}
	for _, d := range s.Drives {
		if _, err := os.Stat(d.Path); err != nil {
			return wire.Errorf(monitor.CodeOf(err), "booting machine %q: opening a drive: %w", s.ID, err)
		}
	}
	return nil
}

// Boot starts Firecracker, tells it what to make, and has the guest run.
func (d *driver) Boot(ctx context.Context, spec vm.Spec) (vm.Machine, error) {
	start := time.Now()
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if err := monitor.CheckKernel(spec.Kernel, false); err != nil {
		return nil, err
	}
	m, err := d.launch(ctx, launch{Spec: spec})
	if err != nil {
		return nil, err
	}
	if err := m.configure(ctx, spec); err != nil {
		err = m.failure(ctx, "booting", err)
		m.discard()
		return nil, err
	}
	m.jail.booted()
	m.handle.Boot = time.Since(start)
	go m.watch()
	return m, nil
}

// launch is what a process is started for: to boot a spec, or to go on with what
// was saved of it.
type launch struct {
	vm.Spec
	from   string // the directory of what was saved; empty for one that boots
	memory string // the file of its memory
}

// launch starts a Firecracker that has nothing to do yet.
func (d *driver) launch(ctx context.Context, l launch) (_ *machine, err error) {
	fail := func(err error) error {
		if e := (*wire.Error)(nil); errors.As(err, &e) {
			return wire.Errorf(e.Code, "booting machine %q: %w", l.ID, err).WithHint("%s", e.Hint)
		}
		return wire.Errorf(monitor.CodeOf(err), "booting machine %q: %w", l.ID, err)
	}
	binary, err := d.binary()
	if err != nil {
		return nil, err
	}
	version, err := d.Version(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.kvm(ctx); err != nil {
		return nil, fail(err)
	}
	dir, err := filepath.Abs(l.Dir)
	if err != nil {
		return nil, fail(err)
	}
	m := newMachine(vm.Handle{Driver: d.Name(), Version: version, Accel: "kvm", ID: l.ID, Dir: dir, Memory: l.memory})
	defer func() {
		if err != nil {
			m.discard()
		}
	}()
	confine := d.confinement()
	if confine.jailer != "" {
		if err := checkStatic(binary); err != nil {
			return nil, fail(err)
		}
	}
	real, err := monitor.RealPath(dir) // as the kernel will have it
	if err != nil {
		return nil, fail(err)
	}
	if m.jail, err = newJail(real, l, binary, confine); err != nil {
		return nil, fail(err)
	}
	if err := m.start(binary, confine); err != nil {
		// A host may not let an ordinary user have namespaces.
		if confine.userNS && (errors.Is(err, fs.ErrPermission) || errors.Is(err, errNoNamespaces)) {
			d.plain.Store(confine, true)
			m.discard()
			return d.launch(ctx, l)
		}
		return nil, fail(err)
	}
	m.handle.PID, m.handle.StartTime = m.proc.PID, m.proc.Start
	info, err := m.api.start(ctx)
	if err != nil {
		return nil, m.failure(ctx, "booting", err)
	}
	m.handle.Version = info.VMMVersion
	return m, nil
}

// start runs the program, with the two pipes and nothing else of ours.
func (m *machine) start(binary string, c confinement) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	out, err := monitor.MakePipe(m.jail.console())
	if err != nil {
		return err
	}
	defer out.Close()
	log, err := monitor.MakePipe(filepath.Join(m.jail.root, logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := m.jail.own(logFile); err != nil {
		return err
	}
	if err := m.read(); err != nil { // while the pipes have a writer: us
		return err
	}
	if m.socks, err = monitor.OpenDir(m.jail.root); err != nil {
		return err
	}
	sys, err := m.jail.attributes(c)
	if err != nil {
		return err
	}
	defer sys.close()
	m.proc, err = monitor.StartProcess(m.jail.command(binary, c), m.jail.root, []*os.File{null, out, log}, sys.attr)
	if err != nil {
		return err
	}
	m.connect()
	return nil
}

// configure is all that is said to a Firecracker before its guest runs.
func (m *machine) configure(ctx context.Context, spec vm.Spec) error {
	if err := m.api.machine(ctx, machineConfig{VCPUCount: spec.VCPU, MemSizeMiB: spec.MemMiB}); err != nil {
		return err
	}
	boot := bootSource{KernelImagePath: kernelFile, BootArgs: kernelWords(spec)}
	if spec.Initrd != "" {
		boot.InitrdPath = initrdFile
	}
	if err := m.api.boot(ctx, boot); err != nil {
		return err
	}
	for i, d := range spec.Drives {
		if err := m.api.drive(ctx, driveConfig{
			DriveID: driveName(i), PathOnHost: driveName(i), IsReadOnly: d.ReadOnly,
			CacheType: "Writeback", IOEngine: "Sync",
		}); err != nil {
			return err
		}
	}
	if err := m.api.vsock(ctx, vsockConfig{GuestCID: guestCID, UDSPath: vsockSocket}); err != nil {
		return err
	}
	return m.api.instanceStart(ctx)
}

// kernelWords is the kernel's command line. Firecracker ends when its guest
// restarts, and not when it powers off.
func kernelWords(s vm.Spec) string {
	words := append([]string{console}, monitor.GuestWords...)
	words = append(words, "reboot=k")
	if s.Append != "" {
		words = append(words, s.Append)
	}
	return strings.Join(words, " ")
}

// failure says why a Firecracker doesn't do what it was asked: in its own words,
// or if it has ended, its last.
func (m *machine) failure(ctx context.Context, doing string, err error) error {
	code, hint := classify(ctx, err, wire.Internal)
	if said := (*fault)(nil); ctx.Err() == nil && !errors.As(err, &said) {
		select {
		case <-m.proc.Done():
			m.logs.Wait()
			err = errors.New(m.lastWords())
		case <-time.After(50 * time.Millisecond): // one that ends is seen to a moment later
		}
	}
	e := wire.Errorf(code, "%s machine %q: %w", doing, m.handle.ID, err)
	e.Hint = hint
	return e
}
