package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// furnishing makes the machine a host: its drives mounted where BandSox looks,
// and the modules loaded that nothing asks for by itself.
const furnishing = `set -e
mkdir -p /lab /var/lib/bandsox
mount /dev/vdc /var/lib/bandsox
mount -o ro /dev/vdd /lab
modprobe -a kvm_amd tun vhost_vsock loop
[ -c /dev/kvm ]`

// environment is the command's.
var environment = []string{
	"PATH=/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "LANG=C.UTF-8", "BANDSOX_LAB=1",
	"BANDSOX_TEST_CACHE=/var/lib/bandsox", // a kernel is under it
	"BANDSOX_TEST_PROGRAMS=/lab/programs", // there is no Go to compile them with
}

func (m *machine) furnish(ctx context.Context) error {
	p, err := m.client.Start(ctx, wire.StartRequest{Argv: []string{"/bin/bash", "-c", furnishing}, Env: environment})
	if err != nil {
		return err
	}
	defer p.Close()
	var said tail
	exit, err := p.Copy(&said, &said)
	if err == nil && exit.Code != 0 {
		err = wire.Errorf(wire.Internal, "furnishing the machine: %s", said.String())
	}
	return err
}

// run runs the command with our input, output and signals, on a terminal if we
// have one, and returns its exit code as a shell would.
func (m *machine) run(ctx context.Context, o options, signals <-chan int) (int, error) {
	r := wire.StartRequest{Argv: o.argv, Env: append(environment[:len(environment):len(environment)], o.env...), Dir: o.dir, Stdin: true, KillOnDetach: true}
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	terminal := term.IsTerminal(in) && term.IsTerminal(out)
	if terminal {
		r.TTY = size(out)
		r.Env = append(r.Env, "TERM="+os.Getenv("TERM"))
	}
	p, err := m.client.Start(ctx, r)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if terminal {
		old, err := term.MakeRaw(in)
		if err != nil {
			return 0, err
		}
		defer term.Restore(in, old)
		go resize(ctx, p, out)
	}
	go func() {
		for {
			select {
			case s := <-signals:
				p.Signal(s, true)
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		io.Copy(p, os.Stdin)
		p.CloseStdin()
	}()
	exit, err := p.Copy(os.Stdout, os.Stderr)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil:
		return 0, errors.Join(err, errors.New(m.log.String()))
	case exit.Signal != 0:
		return 128 + exit.Signal, nil
	}
	return exit.Code, nil
}

func size(fd int) *wire.Size {
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return &wire.Size{Cols: 80, Rows: 24}
	}
	return &wire.Size{Cols: uint16(cols), Rows: uint16(rows)}
}

func resize(ctx context.Context, p *agent.Process, fd int) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	defer signal.Stop(changed)
	for {
		select {
		case <-changed:
			p.Resize(*size(fd))
		case <-ctx.Done():
			return
		}
	}
}
