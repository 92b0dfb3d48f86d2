package wire

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTime is far beyond what any test needs on a busy machine.
const testTime = 2 * time.Minute

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	t.Cleanup(cancel)
	return ctx
}

// socketPair is a byte stream such as a virtio-serial port is on the host.
func socketPair(t testing.TB) (a, b *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func testReply(h Hello) HelloReply { return HelloReply{Agent: "test", Kernel: "6.1"} }

// session is a host's and a guest's end of the same session.
func session(t testing.TB) (host, guest *Mux) {
	t.Helper()
	a, b := socketPair(t)
	srv := NewConnServer(b)
	accepted := make(chan *Mux, 1)
	go func() {
		m, err := srv.Accept(testReply)
		if err != nil {
			t.Error(err)
		}
		accepted <- m
	}()
	host, reply, err := Connect(testContext(t), a, Hello{})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Agent != "test" {
		t.Fatalf("reply %+v", reply)
	}
	guest = <-accepted
	t.Cleanup(func() { host.Close(); srv.Close(); <-guest.Done() })
	return host, guest
}

// pair is a stream's two ends.
func pair(t testing.TB, host, guest *Mux) (h, g *Stream) {
	t.Helper()
	h, err := host.Open(testContext(t), Request{Op: OpStats})
	if err != nil {
		t.Fatal(err)
	}
	g, req, err := guest.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if req.Op != OpStats {
		t.Fatalf("request %+v", req)
	}
	return h, g
}

// ours is the shortest hello of this version, and the shortest answer to one.
func ours() []byte { return fmt.Appendf(nil, `{"version":%d}`, Version) }
