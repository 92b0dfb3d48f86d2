package guest

import (
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// lingering is how long a program may take to read what the host sent before
// it closed the connection.
const lingering = 30 * time.Second

// dial carries a connection to a server in this guest. Package net would be a
// sixth of the agent, so the sockets are the kernel's own, with the runtime's
// poller to wait for them.
func (s *service) dial(st *wire.Stream, r *wire.DialRequest) error {
	f, err := connectTo(st, r)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := st.SendControl(wire.Control{Done: &wire.Done{}}); err != nil {
		return nil
	}
	silent, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		toProgram(st, f, silent)
	}()
	fromProgram(st, f)
	close(silent)
	<-over
	return nil
}

// connectTo tries the addresses that r may mean. A host that goes away meanwhile
// ends the waiting for a server that doesn't accept.
func connectTo(st *wire.Stream, r *wire.DialRequest) (*os.File, error) {
	v4 := &unix.SockaddrInet4{Port: r.Port, Addr: [4]byte{127, 0, 0, 1}}
	v6 := &unix.SockaddrInet6{Port: r.Port, Addr: [16]byte{15: 1}}
	var try []unix.Sockaddr
	switch r.Address {
	case "":
		try = []unix.Sockaddr{v4, v6}
	case "127.0.0.1":
		try = []unix.Sockaddr{v4}
	case "::1":
		try = []unix.Sockaddr{v6}
	}
	if r.Port < 1 || r.Port > 65535 || try == nil {
		return nil, wire.Errorf(wire.Invalid, "connecting to port %d of %q: want 1 to 65535 of 127.0.0.1 or ::1", r.Port, r.Address)
	}
	var why error
	for _, addr := range try {
		f, err := connect(st, addr)
		if err == nil {
			return f, nil
		}
		if why == nil || why == unix.ECONNREFUSED && err != unix.EAFNOSUPPORT && err != unix.EADDRNOTAVAIL {
			why = err
		}
	}
	if why == unix.ECONNREFUSED {
		return nil, wire.Errorf(wire.Unavailable, "nothing listens on port %d", r.Port)
	}
	return nil, wire.Errorf(wire.Unavailable, "connecting to port %d: %v", r.Port, why)
}

func connect(st *wire.Stream, addr unix.Sockaddr) (*os.File, error) {
	family := unix.AF_INET
	if _, ok := addr.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.Connect(fd, addr); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	f := os.NewFile(uintptr(fd), "socket")
	if err == nil {
		return f, nil
	}
	connected := make(chan struct{})
	go func() {
		select {
		case <-st.Done():
			f.SetDeadline(time.Now())
		case <-connected:
		}
	}()
	err = connecting(f)
	close(connected)
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// connecting waits until f is connected, or can't be.
func connecting(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
		case n != 0:
			failed = syscall.Errno(n)
		default:
			_, err := unix.Getpeername(int(fd))
			return err == nil // not yet: woken for nothing
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

// fromProgram sends what the program writes, until it ends its side, the
// connection breaks, or the host has gone.
func fromProgram(st *wire.Stream, f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	for {
		var packet *wire.Packet // only while there is something to read: idle connections cost none
		n := 0
		waitErr := raw.Read(func(fd uintptr) bool {
			packet = packets.Get().(*wire.Packet)
			n, err = readOnce(int(fd), packet.Data()[:chunk])
			if err == unix.EAGAIN {
				packets.Put(packet)
			}
			return err != unix.EAGAIN
		})
		if waitErr != nil {
			return // we have ended it
		}
		gone := false
		if err == nil && n > 0 {
			gone = st.SendPacket(wire.KindData, packet, n) != nil
		}
		packets.Put(packet)
		switch {
		case err != nil:
			st.Reset(wire.Errorf(wire.Unavailable, "the program's connection broke: %v", err))
			return
		case n == 0:
			st.CloseSend()
			return
		case gone:
			return // what it sent before is still for the program
		}
	}
}

func readOnce(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// toProgram gives the program what the host sends, and then its end. It returns
// when the host has gone or, being silent too, the program has nothing to say
// any more. A host that broke off is to the program what a peer is that did: a
// connection that was reset, and no good end.
func toProgram(st *wire.Stream, f *os.File, silent chan struct{}) {
	defer f.SetDeadline(time.Now()) // wakes fromProgram
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-st.Done():
			f.SetWriteDeadline(time.Now().Add(lingering))
		case <-over:
		}
	}()
	err := forward(st, f)
	switch {
	case err == io.EOF:
		withFD(f, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
	case err != nil:
		withFD(f, func(fd int) error {
			return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		return
	}
	select {
	case <-silent:
	case <-st.Done():
	}
}

// forward returns why there is no more from the host, or nil when the program
// takes no more: it may have said something before.
func forward(st *wire.Stream, f *os.File) error {
	for {
		kind, b, err := st.Recv()
		if err != nil {
			return err
		}
		if kind != wire.KindData {
			return wire.Errorf(wire.Invalid, "the host sent something else than data")
		}
		if _, err := f.Write(b); err != nil {
			return nil
		}
	}
}
