// Package vmtest is what tests of machines share: the contract that every
// driver must keep, and the process fake, a driver whose machine is the real
// agent running as a process of this host. No product can reach it: it needs a
// test program that calls Main.
package vmtest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bandsox/bandsox/internal/agent/guest"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/monitor"
	"github.com/bandsox/bandsox/internal/wire"
)

// machineEnv names the directory of the machine that a process is.
const machineEnv = "BANDSOX_TEST_MACHINE"

// rootEnv names the directory of its files.
const rootEnv = "BANDSOX_TEST_ROOT"

// Main lets a test program be the process fake's machine, and its managers have
// the driver "process". Call it in TestMain with what shall run otherwise.
func Main(run func() int) {
	if dir := os.Getenv(machineEnv); dir != "" {
		os.Unsetenv(machineEnv)
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, "process fake:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	vm.Provide("process", NewProcess)
	// These tests wait more than they compute, so more of them run at once than
	// there are cores, unless -parallel says otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(run())
}

// serve is the life of a machine: the agent behind a socket.
func serve(dir string) error {
	root := os.Getenv(rootEnv)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	l, err := net.Listen("unix", "agent.sock")
	if err != nil {
		return err
	}
	defer l.Close()
	logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	logf("process fake: the agent is up")
	return guest.Serve(context.Background(), &line{listener: l}, guest.ServeConfig{Fake: true, Root: root, Version: "fake", Log: logf})
}

// line is a virtio-serial port made of a socket: one host at a time, and the
// agent does not see it go.
type line struct {
	listener net.Listener
	mu       sync.Mutex
	conn     net.Conn
}

func (l *line) Read(b []byte) (int, error) {
	for {
		l.mu.Lock()
		conn := l.conn
		l.mu.Unlock()
		if conn == nil {
			next, err := l.listener.Accept()
			if err != nil {
				return 0, err
			}
			l.mu.Lock()
			l.conn = next
			l.mu.Unlock()
			continue
		}
		if n, err := conn.Read(b); err == nil {
			return n, nil
		}
		conn.Close()
		l.mu.Lock()
		l.conn = nil
		l.mu.Unlock()
	}
}

// Write drops what no host is there to read, as the real port does.
func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		_, _ = conn.Write(b)
	}
	return len(b), nil
}

type processDriver struct{}

// NewProcess returns the process fake.
func NewProcess() vm.Driver { return processDriver{} }

// Kernelless says that the agent runs on the host's kernel.
func (processDriver) Kernelless() {}

func (processDriver) Name() string                            { return "process" }
func (processDriver) Traits() vm.Traits                       { return vm.Traits{} }
func (processDriver) Version(context.Context) (string, error) { return "fake", nil }

func (d processDriver) Boot(ctx context.Context, spec vm.Spec) (vm.Machine, error) {
	return d.boot(spec, "")
}

// rootOf is where the machine's files are: beside its disk, as if they were on it.
func rootOf(spec vm.Spec) string {
	if n := len(spec.Drives); n > 0 {
		return spec.Drives[n-1].Path + ".files"
	}
	return filepath.Join(spec.Dir, "root")
}

func (processDriver) boot(spec vm.Spec, memory string) (vm.Machine, error) {
	for _, d := range spec.Drives {
		if _, err := os.Stat(d.Path); err != nil {
			return nil, wire.Errorf(wire.NotFound, "booting %s: %w", spec.ID, err)
		}
	}
	console, err := os.Create(filepath.Join(spec.Dir, "console.log"))
	if err != nil {
		return nil, err
	}
	defer console.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	root := rootOf(spec)
	began := time.Now()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), machineEnv+"="+spec.Dir, rootEnv+"="+root)
	cmd.Dir, cmd.Stdout, cmd.Stderr = spec.Dir, console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := vm.Handle{Driver: "process", Version: "fake", ID: spec.ID, Dir: spec.Dir, PID: cmd.Process.Pid,
		StartTime: startTime(cmd.Process.Pid), Boot: time.Since(began), Memory: memory}
	m := &processMachine{h: h, done: make(chan struct{}), reaped: make(chan struct{})}
	go func() {
		err := cmd.Wait()
		close(m.reaped)
		m.finish(err)
	}()
	return m, nil
}

func (processDriver) Adopt(_ context.Context, h vm.Handle) (vm.Machine, error) {
	if h.PID == 0 || startTime(h.PID) != h.StartTime {
		return nil, wire.Errorf(wire.NotFound, "machine %s is gone", h.ID)
	}
	m := &processMachine{h: h, done: make(chan struct{})}
	go func() {
		for startTime(h.PID) == h.StartTime {
			select {
			case <-m.done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		m.finish(nil)
	}()
	return m, nil
}

func (processDriver) Find(_ context.Context, dir string) ([]vm.Handle, error) {
	var found []vm.Handle
	pids, err := monitor.Pids()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			at, ok := strings.CutPrefix(string(v), machineEnv+"=")
			if !ok || at != dir && !strings.HasPrefix(at, dir+"/") {
				continue
			}
			if start := startTime(pid); start != 0 {
				found = append(found, vm.Handle{Driver: "process", ID: filepath.Base(filepath.Dir(at)), Dir: at, PID: pid, StartTime: start})
			}
		}
	}
	return found, nil
}

type processMachine struct {
	h      vm.Handle
	done   chan struct{}
	reaped chan struct{} // nil when the process is not our child
	once   sync.Once
	killed atomic.Bool
	err    error
}

func (m *processMachine) finish(err error) {
	m.once.Do(func() {
		if err == nil && m.killed.Load() { // how another's child ended isn't told
			err = errors.New("killed")
		}
		m.err = err
		_ = os.Remove(filepath.Join(m.h.Dir, "agent.sock"))
		close(m.done)
	})
}

func (m *processMachine) Handle() vm.Handle     { return m.h }
func (m *processMachine) Done() <-chan struct{} { return m.done }
func (m *processMachine) Halted() <-chan error  { return nil }

// Waits is never so: no disk of its own can be full.
func (m *processMachine) Waits(context.Context) (bool, error) { return false, m.signal(0) }

func (m *processMachine) Err() error {
	select {
	case <-m.done:
	default:
		return nil
	}
	if m.err != nil {
		return wire.Errorf(wire.Unavailable, "machine %s: %w", m.h.ID, m.err)
	}
	return nil
}

func (m *processMachine) Dial(ctx context.Context) (net.Conn, error) {
	dir, err := os.Open(m.h.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/agent.sock", dir.Fd()) // a socket's path is short
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-m.done:
			return nil, wire.Errorf(wire.Unavailable, "machine %s has ended", m.h.ID)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (m *processMachine) signal(s syscall.Signal) error {
	select {
	case <-m.done:
		return wire.Errorf(wire.Unavailable, "machine %s has ended", m.h.ID)
	default:
	}
	for _, pid := range family(m.h.PID) {
		_ = syscall.Kill(pid, s)
	}
	return nil
}

// Pause returns when it stands still: the signal is heeded a moment later.
func (m *processMachine) Pause(ctx context.Context) error {
	if err := m.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for !monitor.Stopped(m.h.PID) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.done:
			return m.signal(0)
		case <-time.After(200 * time.Microsecond):
		}
	}
	return nil
}

func (m *processMachine) Resume(context.Context) error { return m.signal(syscall.SIGCONT) }

// ResizeDrive has no guest to tell: the agent's files are the host's.
func (m *processMachine) ResizeDrive(context.Context, int, int64) error { return m.signal(0) }

func (m *processMachine) Console(context.Context) (io.ReadCloser, error) {
	return os.Open(filepath.Join(m.h.Dir, "console.log"))
}

func (m *processMachine) Kill() error {
	m.killed.Store(true)
	if m.signal(syscall.SIGKILL) != nil {
		return nil // it is dead
	}
	<-m.done
	return nil
}

// Release leaves the process running. Its end is still waited for, where it is
// our child, so that no zombie stays.
func (m *processMachine) Release() error {
	if m.reaped == nil {
		m.once.Do(func() { close(m.done) })
	}
	return nil
}

// family is a process and all that came of it.
func family(pid int) []int {
	pids := []int{pid}
	children := map[int][]int{}
	all, _ := monitor.Pids()
	for _, child := range all {
		if f := statFields(child); len(f) >= 2 {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], child)
		}
	}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids
}

func startTime(pid int) uint64 {
	f := statFields(pid)
	if len(f) < 20 || f[0] == "Z" {
		return 0
	}
	n, _ := strconv.ParseUint(f[19], 10, 64)
	return n
}

// statFields are the fields of a process behind its command's name.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}
