package guest

import (
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// maxEntropy is how much of a host's randomness is taken at a time.
const maxEntropy = 512

// maxDrift is how wrong the clock may be before a later hello sets it again: a
// restored guest's is off by minutes, a reconnect must not make it jump.
const maxDrift = 50 * time.Millisecond

// hello answers the host's, and takes its time and entropy.
func (s *service) hello(h wire.Hello) wire.HelloReply {
	var u unix.Utsname
	unix.Uname(&u)
	boot := s.kernelValue("/proc/sys/kernel/random/boot_id")
	reply := wire.HelloReply{
		Version: wire.Version,
		Agent:   s.cfg.Version,
		Kernel:  unix.ByteSliceToString(u.Release[:]),
		BootID:  boot,
		Time:    time.Now(),
		Error:   s.cfg.Failure,
	}
	if s.cfg.Greeted != nil {
		s.cfg.Greeted()
	}
	if s.cfg.Fake || h.Version != wire.Version {
		return reply
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if drift := time.Until(h.Time).Abs(); !h.Time.IsZero() && (!s.clockSet || drift > maxDrift) {
		tv := unix.NsecToTimeval(h.Time.UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			s.log("setting the clock: %v", err)
		}
		s.clockSet = true
	}
	if err := addEntropy(h.Entropy); err != nil {
		s.log("adding entropy: %v", err)
	}
	return reply
}

func (s *service) kernelValue(path string) string {
	return strings.TrimSpace(string(readKernel(path)))
}

// addEntropy credits b to the kernel's generator, and has it reseed at once:
// guests restored from one snapshot must not draw the same numbers.
func addEntropy(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var pool struct { // struct rand_pool_info
		bits, size int32
		buf        [maxEntropy]byte
	}
	n := copy(pool.buf[:], b)
	pool.bits, pool.size = int32(8*n), int32(n)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return errno
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDRESEEDCRNG, 0); errno != 0 {
		return errno
	}
	return nil
}
