package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/agentbin"
	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/vm/qemu"
	"github.com/bandsox/bandsox/internal/wire"
)

// machine is a running QEMU. It is killed when this program ends, however it does.
type machine struct {
	cmd    *exec.Cmd
	socket string // the agent's
	client *agent.Client
	gone   chan struct{}
	log    *tail // console, and QEMU's own words
}

// boot starts the machine. What it needs of s it has opened when the agent
// answers; all drives but the first may be written to, and forget it.
func boot(ctx context.Context, o options, k kit, s *scratch) (*machine, error) {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "emulating a machine needs qemu-system-x86_64").WithHint("sudo apt-get install qemu-system-x86")
	}
	program, ok := agentbin.Agent("amd64")
	if !ok {
		return nil, wire.Errorf(wire.Unavailable, "this program was built without the guest's agent").WithHint("make bin/lab")
	}
	initrd, luggage := filepath.Join(s.dir, "initrd"), filepath.Join(s.dir, "luggage.ext4")
	if err := kernel.WriteInitramfs(initrd, program, k.kernel, nil); err != nil {
		return nil, err
	}
	if err := pack(ctx, luggage, o.add); err != nil {
		return nil, err
	}
	m := &machine{socket: s.short("agent.sock"), gone: make(chan struct{}), log: &tail{}}
	port, err := listen(m.socket)
	if err != nil {
		return nil, err
	}
	defer port.Close()
	if o.console {
		m.log.also = os.Stderr
	}
	m.cmd = exec.Command(path, arguments(o, k, initrd, luggage)...)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	m.cmd.ExtraFiles = []*os.File{port}
	// In a session of its own, so that a terminal's Ctrl-C is ours to handle.
	m.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		m.cmd.Wait()
		close(m.gone)
	}()
	return m, nil
}

// arguments is QEMU's command line. The machine is the one that sandboxes have,
// with another processor: one that has AMD's virtualisation. The
// tables of five levels are left out, for they aren't emulated well together.
func arguments(o options, k kit, initrd, luggage string) []string {
	words := "console=ttyS0 quiet panic=-1 reboot=t mitigations=off init_on_alloc=0 " +
		"lsm=landlock,yama,bpf cryptomgr.notests random.trust_cpu=on"
	// The emulated counter is the host's; a kernel that measures it itself runs
	// twice too fast.
	if khz := qemu.TSCKHz(); khz > 0 {
		words += " tsc_early_khz=" + strconv.FormatUint(khz, 10) + " tsc=reliable"
	}
	a := []string{
		"-name", "guest=bandsox-lab", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "microvm,rtc=on,pit=off,pic=off,isa-serial=on,x-option-roms=off",
		"-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,+svm,-la57",
		"-smp", strconv.Itoa(o.cpus), "-m", strconv.Itoa(o.mem),
		"-kernel", k.kernel.Vmlinux, "-initrd", initrd, "-append", words,
		"-global", "virtio-mmio.force-legacy=false",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "virtio-serial-device", "-chardev", "socket,id=agent,fd=3,server=on,wait=off",
		"-device", "virtserialport,chardev=agent,nr=1,name=bandsox.agent",
	}
	// The base, the disk over it, the state directory, what was brought along.
	for i, path := range []string{k.root, k.disk, k.state, luggage} {
		how := "snapshot=on" // written to a file without a name
		if i == 0 {
			how = "readonly=on"
		}
		a = append(a, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,%s,file=%s", i, how, strings.ReplaceAll(path, ",", ",,")),
			"-device", fmt.Sprintf("virtio-blk-device,drive=d%d", i))
	}
	return a
}

// connect waits for the agent's answer.
func (m *machine) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	client, err := agent.Connect(ctx, func(ctx context.Context) (net.Conn, error) {
		select {
		case <-m.gone:
			return nil, errors.New("QEMU has ended")
		default:
			return new(net.Dialer).DialContext(ctx, "unix", m.socket)
		}
	})
	if err == nil {
		m.client = client
		err = client.Identity(ctx, wire.Identity{Hostname: "lab", Hosts: map[string]string{"lab": "127.0.1.1"}})
	}
	if err != nil {
		m.kill()
		return fmt.Errorf("booting the machine: %w\n%s", err, m.log.String())
	}
	return nil
}

// kill ends the machine: there is nothing of it to keep.
func (m *machine) kill() {
	m.cmd.Process.Kill()
	<-m.gone
}

// listen makes a socket for QEMU to inherit, so that it is there before QEMU is.
func listen(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	b    []byte
	also io.Writer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-16<<10):]
	if t.also != nil {
		t.also.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
