package guest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	portName  = "bandsox.agent"
	vsockPort = 1024
)

// port is the way to the host: a virtio-serial port, or else vsock.
type port interface {
	serve(*service) error
}

// openPort opens it early: the host's first hello waits there for the rest of
// the boot.
func (b *boot) openPort() (port, error) {
	const patience = 10 * time.Second
	pause := 100 * time.Microsecond
	for end := time.Now().Add(patience); ; pause = min(2*pause, 5*time.Millisecond) {
		if dev := findPort(); dev != "" {
			f, err := os.OpenFile(dev, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
			if err == nil {
				return &serialPort{file: f}, nil
			}
			if !os.IsNotExist(err) {
				return nil, wire.Errorf(wire.Internal, "opening the agent's port %s: %w", dev, cause(err))
			}
		} else if v, err := listenVsock(); err == nil {
			return v, nil
		}
		if time.Now().After(end) {
			return nil, wire.Errorf(wire.NotFound, "looking for the agent's port: neither a virtio port %q nor vsock after %v", portName, patience)
		}
		time.Sleep(pause)
	}
}

func findPort() string {
	const class = "/sys/class/virtio-ports"
	entries, _ := os.ReadDir(class)
	for _, e := range entries {
		if strings.TrimSpace(string(readKernel(filepath.Join(class, e.Name(), "name")))) == portName {
			return "/dev/" + e.Name()
		}
	}
	return ""
}

// serialPort reads and writes a virtio-serial port. Reading one whose host
// went away returns 0 bytes at once, again and again: that is told once, as
// io.EOF, and then waited out, without polling: the kernel wakes us when a host
// comes back.
type serialPort struct {
	file *os.File
	told bool // that there is no host
}

func (p *serialPort) Read(b []byte) (n int, err error) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	waitErr := raw.Read(func(fd uintptr) bool {
		// The kernel gives one buffer of the port at a time, a page: all there
		// are are taken at once.
		for n < len(b) {
			var k int
			k, err = unix.Read(int(fd), b[n:])
			if err == unix.EINTR {
				continue
			}
			if k <= 0 || err != nil {
				break
			}
			n += k
		}
		switch {
		case n > 0:
			err = nil // it will be there again
		case err == unix.EAGAIN:
			p.told = false
			return false
		case err == nil && p.told:
			return false
		}
		return true
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case err != nil:
		return 0, err
	case n == 0:
		p.told = true
		return 0, io.EOF
	}
	p.told = false
	return n, nil
}

func (p *serialPort) Write(b []byte) (int, error) { return p.file.Write(b) }
func (p *serialPort) Close() error                { return p.file.Close() }

func (p *serialPort) serve(s *service) error {
	return s.serve(context.Background(), wire.NewServer(p))
}

// vsock listens for hosts: each connection is a byte stream of its own.
type vsock struct {
	fd int
}

func listenVsock() (*vsock, error) {
	if !hasVsock() {
		return nil, unix.ENODEV
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: vsockPort})
	if err == nil {
		err = unix.Listen(fd, 8)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &vsock{fd: fd}, nil
}

// hasVsock looks for the device. That the kernel has vsock says nothing: a machine
// with a serial port may boot the same kernel.
func hasVsock() bool {
	const dir, kind = "/sys/bus/virtio/devices", "0x0013"
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.TrimSpace(string(readKernel(filepath.Join(dir, e.Name(), "device")))) == kind {
			return true
		}
	}
	return false
}

func (v *vsock) serve(s *service) error {
	go func() {
		for {
			fd, from, err := unix.Accept4(v.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err != nil {
				time.Sleep(10 * time.Millisecond) // out of memory, say: it passes
				continue
			}
			// A program of the guest may reach us as well, and isn't the host.
			if peer, ok := from.(*unix.SockaddrVM); !ok || peer.CID != unix.VMADDR_CID_HOST {
				unix.Close(fd)
				continue
			}
			go func() {
				conn := os.NewFile(uintptr(fd), "vsock")
				defer conn.Close()
				s.serve(context.Background(), wire.NewConnServer(conn))
			}()
		}
	}()
	<-s.stopped
	return nil
}
