package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/wire"
)

const (
	memMiB  = 256
	diskMiB = 4096
)

// coldCreate is what a user waits for: from nothing to a program's output.
func coldCreate(ctx context.Context, m *bandsox.Manager, in *inputs) (time.Duration, error) {
	start := time.Now()
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: memMiB, DiskSizeMiB: diskMiB, AutoRemove: true})
	if err != nil {
		return 0, err
	}
	out, err := sb.Command("/bin/guest", "say", "hello").Output(ctx)
	took := time.Since(start)
	if err == nil && string(out) != "hello\n" {
		err = fmt.Errorf("the program said %q", out)
	}
	return took, errors.Join(err, sb.Delete(ctx))
}

// bare is a QEMU started by hand with the command line that the driver used
// for a sandbox: the same kernel, initramfs and kind of disk, and no BandSox
// around it but the few bytes that make the agent run a program.
type bare struct {
	argv []string // with from in the place of the machine's own directory
	from string
}

// learn reads the command line of a running sandbox's machine.
func learn(ctx context.Context, sb *bandsox.Sandbox) (*bare, error) {
	info, err := sb.Info(ctx)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", info.PID))
	if err != nil {
		return nil, err
	}
	from := filepath.Dir(info.Machine.Dir) // its disk and its sockets are under it
	argv := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	if !strings.Contains(strings.Join(argv, " "), from) {
		return nil, fmt.Errorf("the machine's command line doesn't name %s", from)
	}
	return &bare{argv: argv, from: from}, nil
}

var inherited = regexp.MustCompile(`^socket,id=(\w+),fd=\d+,`)

// boot starts the machine in dir with extra arguments.
func (b *bare) boot(ctx context.Context, dir string, extra ...string) (*exec.Cmd, error) {
	argv := append([]string(nil), b.argv...)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], b.from, dir)
		// The driver's sockets are inherited; ours are made by QEMU.
		argv[i] = inherited.ReplaceAllString(argv[i], "socket,id=$1,path="+dir+"/$1.sock,")
		argv[i] = strings.Replace(argv[i], "max_ports=2", "max_ports=3", 1) // room for a raw one
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], extra...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(dir, "bare.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, cmd.Start()
}

// prepare makes the machine's directory and disk: what isn't timed.
func (b *bare) prepare(ctx context.Context, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "machine"), 0o700); err != nil {
		return err
	}
	return disk.Create(ctx, filepath.Join(dir, "disk.ext4"), diskMiB)
}

func (b *bare) connect(ctx context.Context, dir string) (*agent.Client, error) {
	return agent.Connect(ctx, dialer(filepath.Join(dir, "agent.sock")))
}

// dialer waits for a socket that QEMU has yet to make.
func dialer(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		for {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", path)
			if err == nil {
				return conn, nil
			}
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
}

// coldBare is coldCreate without BandSox.
func (b *bare) coldBare(ctx context.Context, dir string) (took time.Duration, err error) {
	if err := b.prepare(ctx, dir); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	start := time.Now()
	cmd, err := b.boot(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer kill(cmd)
	client, err := b.connect(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	proc, err := client.Start(ctx, wire.StartRequest{Argv: []string{"/bin/guest", "say", "hello"}})
	if err != nil {
		return 0, err
	}
	defer proc.Close()
	var out strings.Builder
	if _, err := proc.Copy(&out, io.Discard); err != nil {
		return 0, err
	}
	took = time.Since(start)
	if out.String() != "hello\n" {
		return 0, fmt.Errorf("the program said %q", out.String())
	}
	return took, nil
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
