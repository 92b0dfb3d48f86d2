package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mostConns = 4096   // of the server, and half of that from one address
	idlers    = 10_000 // connections that ask for nothing
	badOfKind = 5      // at once
)

// rabble are clients that do to a server what they can.
type rabble struct {
	t    testing.TB
	addr string
	ctx  context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup
	cut  [len(badKinds)]atomic.Int64 // connections that the server has ended, by kind
	idle []net.Conn
}

// badKinds are what they send, until the server has enough of it or they are to
// stop. Each then comes again.
var badKinds = [...]struct {
	name string
	do   func(ctx context.Context, c net.Conn)
}{
	{"slow headers", func(ctx context.Context, c net.Conn) {
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nA: ")
		for ctx.Err() == nil {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}},
	{"headers of 1 GiB", func(_ context.Context, c net.Conn) {
		_, _ = io.Copy(c, io.MultiReader(strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nA: "), io.LimitReader(endless('x'), 1<<30)))
	}},
	{"endless chunks", func(_ context.Context, c net.Conn) {
		_, _ = io.WriteString(c, "POST /api/vms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n")
		_, _ = io.Copy(c, endless('['))
	}},
	{"half-closed", func(_ context.Context, c net.Conn) {
		_, _ = io.WriteString(c, "POST /api/vms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}},
}

// misbehave lets some of each kind in, and many that say nothing or half a
// request, as many as this process may have files.
func misbehave(t testing.TB, addr string) *rabble {
	t.Helper()
	r := &rabble{t: t, addr: addr}
	r.ctx, r.end = context.WithCancel(context.Background())
	var lim unix.Rlimit
	n := idlers
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil && lim.Cur < idlers+mostConns+2000 {
		n = max(int(lim.Cur)-mostConns-2000, 0)
		t.Logf("%d files may be open: %d idle connections in place of %d", lim.Cur, n, idlers)
	}
	r.crowd(n)
	for i := range badKinds {
		for range badOfKind {
			r.wg.Go(func() { r.again(i) })
		}
	}
	return r
}

// again lets a bad client come again whenever it was cut off.
func (r *rabble) again(kind int) {
	for r.ctx.Err() == nil {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			r.t.Error(err)
			return
		}
		stop := context.AfterFunc(r.ctx, func() { c.Close() })
		badKinds[kind].do(r.ctx, c)
		if stop() {
			r.cut[kind].Add(1)
		}
		c.Close()
		select { // as one at another end of a network would: it is no race for this processor
		case <-r.ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// crowd opens connections that stay.
func (r *rabble) crowd(n int) {
	for i := range n {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			r.t.Error(err)
			return
		}
		if i%2 == 1 {
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n") // and never the rest
		}
		r.idle = append(r.idle, c)
	}
}

// stop lets them go. Each kind must have been cut off, but for who had no time
// to be: a header may take ten seconds.
func (r *rabble) stop() {
	r.t.Helper()
	r.end()
	r.wg.Wait()
	for _, c := range r.idle {
		c.Close()
	}
	for i, k := range badKinds[1:] {
		if r.cut[i+1].Load() == 0 {
			r.t.Errorf("%s: nobody was cut off", k.name)
		}
	}
}

func (r *rabble) String() string {
	var b strings.Builder
	for i, k := range badKinds {
		fmt.Fprintf(&b, "%d %s, ", r.cut[i].Load(), k.name)
	}
	fmt.Fprintf(&b, "and %d idle", len(r.idle))
	return b.String()
}
