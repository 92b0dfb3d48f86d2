package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// Boot starts QEMU and waits for its greeting, which it sends when it has
// taken its command line and the guest is about to run.
func (d *driver) Boot(ctx context.Context, spec vm.Spec) (vm.Machine, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if err := monitor.CheckKernel(spec.Kernel, true); err != nil {
		return nil, err
	}
	return d.launch(ctx, launch{Spec: spec})
}

// launch is what a process is started for: to boot a spec, or to go on with what
// was saved of it.
type launch struct {
	vm.Spec
	binary  string
	accel   string
	sandbox bool
	memory  string   // saved; empty for one that boots
	state   *os.File // of its devices
}

// launch starts the program, with what it has to keep a broken-out guest in if
// it has that.
func (d *driver) launch(ctx context.Context, l launch) (_ *machine, err error) {
	start := time.Now()
	if l.binary, err = d.binary(); err != nil {
		return nil, err
	}
	if l.accel, err = d.accel(ctx); err != nil {
		return nil, wire.Errorf(wire.CodeOf(err), "booting machine %q: %w", l.ID, err).WithHint("%s", monitor.HintOf(err))
	}
	if err := makeAbsolute(&l.Spec); err != nil { // QEMU runs in another directory
		return nil, err
	}
	_, plain := d.noSandbox.Load(l.binary)
	l.sandbox = !plain
	m, err := d.spawn(ctx, l)
	if !plain && errors.Is(err, errNoSandbox) {
		d.noSandbox.Store(l.binary, true)
		l.sandbox = false
		m, err = d.spawn(ctx, l)
	}
	if err != nil {
		return nil, err
	}
	m.handle.Boot = time.Since(start)
	go m.watch()
	return m, nil
}

func makeAbsolute(s *vm.Spec) (err error) {
	s.Drives = append([]vm.Drive(nil), s.Drives...)
	paths := []*string{&s.Dir}
	for _, p := range []*string{&s.Kernel, &s.Initrd} {
		if *p != "" {
			paths = append(paths, p)
		}
	}
	for i := range s.Drives {
		paths = append(paths, &s.Drives[i].Path)
	}
	for _, p := range paths {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

// spawn starts one process and shakes hands with it. On error it has ended.
func (d *driver) spawn(ctx context.Context, l launch) (_ *machine, err error) {
	socks, err := monitor.OpenDir(l.Dir)
	if err != nil {
		return nil, wire.Errorf(wire.Internal, "booting machine %q: %w", l.ID, err)
	}
	m := newMachine(vm.Handle{Driver: d.Name(), Accel: l.accel, ID: l.ID, Dir: l.Dir, Memory: l.memory}, socks)
	defer func() {
		if err != nil {
			m.discard()
		}
	}()
	if err := m.start(l); err != nil {
		return nil, wire.Errorf(monitor.CodeOf(err), "booting machine %q: %w", l.ID, err)
	}
	err = m.connect(ctx)
	if err == nil && l.state != nil {
		err = m.loaded(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			err = m.refusal(err)
		}
		return nil, bootError(ctx, l.ID, err)
	}
	m.handle.PID, m.handle.StartTime, m.handle.Version = m.proc.PID, m.proc.Start, m.qmp.version
	return m, nil
}

// start runs the program with its sockets and its standard error as the only
// descriptors it has of ours.
func (m *machine) start(l launch) (err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	control, err := listen(m.socks, qmpSocket)
	if err != nil {
		return err
	}
	defer control.Close()
	agent, err := listen(m.socks, agentSocket)
	if err != nil {
		return err
	}
	defer agent.Close()
	stderr, stderrEnd, err := newStderr()
	if err != nil {
		return err
	}
	defer stderrEnd.Close()
	m.stderr = stderr
	files := []*os.File{null, null, stderrEnd, control, agent}
	argv := append([]string{l.binary}, l.arguments(3, 4)...)
	if l.sandbox {
		argv = append(argv, sandboxArgs...)
	}
	if l.state != nil {
		argv = append(argv, incoming(len(files))...)
		files = append(files, l.state)
	}
	m.proc, err = monitor.StartProcess(argv, l.Dir, files, nil)
	return err
}

var errNoSandbox = errors.New("this QEMU has no -sandbox")

// refusal waits for a QEMU that hung up to end, and takes its own words for why.
func (m *machine) refusal(err error) error {
	if killed := m.proc.Kill(); killed != nil {
		return errors.Join(err, killed)
	}
	m.stderr.wait()
	words := m.stderr.String()
	switch {
	case words == "" && m.proc.State() != nil:
		return errors.New("QEMU ended: " + m.proc.State().String())
	case words == "":
		return err
	}
	for _, no := range noSandboxWords {
		if strings.Contains(words, no) {
			return errNoSandbox
		}
	}
	return errors.New(words)
}

// noSandboxWords are what a QEMU or a host without system call filters says:
// whole phrases, for paths may hold any word.
var noSandboxWords = []string{
	"-sandbox support is not enabled", "no option group 'sandbox'", "failed to install seccomp syscall filter",
}

// bootError classes what QEMU said.
func bootError(ctx context.Context, id string, err error) error {
	code, hint, words := wire.Internal, "", err.Error()
	has := func(s string) bool { return strings.Contains(words, s) }
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		code = wire.Timeout
	case ctx.Err() != nil:
		code = wire.Unavailable
	case has("Cannot allocate memory"), has("cannot set up guest memory"):
		code, hint = wire.Exhausted, "give it less memory, or delete other sandboxes: bandsox list"
	case has("No space left on device"):
		code, hint = wire.Exhausted, "free some disk space: bandsox image prune"
	case has(`Failed to get "write" lock`), has(`Failed to get shared "write" lock`):
		code = wire.Conflict
	case has("No such file or directory"):
		code = wire.NotFound
	case has("Permission denied"):
		code = wire.Denied
	case has("PVH"):
		code, hint = wire.Invalid, "bandsox init --force"
	}
	e := wire.Errorf(code, "booting machine %q: %w", id, err)
	e.Hint = hint
	return e
}
