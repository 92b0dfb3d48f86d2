package server

import (
	"container/list"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// crowd bounds how many connections are open, in all and from one address. One
// more takes the place of the one that has asked for nothing the longest; where
// all of them are being answered it is turned away.
type crowd struct {
	max, perAddr int

	mu      sync.Mutex
	open    int
	waiting list.List // of *guest, who asked for nothing the longest first
	from    map[netip.Addr]*party
}

// party are the connections from one address.
type party struct {
	open    int
	waiting list.List
}

// guest is one connection. It waits until all of a request's header is there,
// and again when that is answered.
type guest struct {
	net.Conn
	c     *crowd
	addr  netip.Addr
	busy  int              // requests that are being answered
	spots [2]*list.Element // in the crowd's and in the party's list
	gone  bool
}

func newCrowd(most int) *crowd {
	return &crowd{max: max(most, 2), perAddr: max(most/2, 1), from: map[netip.Addr]*party{}}
}

// admit lets a connection in, if need be in place of another, or returns nil.
func (c *crowd) admit(conn net.Conn) *guest {
	g := &guest{Conn: conn, c: c, addr: neighbourhood(conn)}
	c.mu.Lock()
	p := c.from[g.addr]
	if p == nil {
		p = &party{}
		c.from[g.addr] = p
	}
	var out *list.Element
	switch {
	case p.open >= c.perAddr:
		out = p.waiting.Front()
	case c.open >= c.max:
		out = c.waiting.Front()
	default:
		out = &list.Element{}
	}
	var evicted *guest
	if out != nil {
		if evicted, _ = out.Value.(*guest); evicted != nil {
			c.leave(evicted)
			c.from[g.addr] = p // it may have been the last one there
		}
		p.open++
		c.open++
		c.wait(g)
	}
	if p.open == 0 {
		delete(c.from, g.addr)
	}
	c.mu.Unlock()
	if evicted != nil {
		evicted.Conn.Close()
	}
	if out == nil {
		return nil
	}
	return g
}

// neighbourhood is what one customer has: an IPv4 address, the /64 of an IPv6 one.
func neighbourhood(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	addr := a.Addr().Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

func (c *crowd) wait(g *guest) {
	g.spots = [2]*list.Element{c.waiting.PushBack(g), c.from[g.addr].waiting.PushBack(g)}
}

func (c *crowd) unwait(g *guest) {
	if g.spots[0] != nil {
		c.waiting.Remove(g.spots[0])
		c.from[g.addr].waiting.Remove(g.spots[1])
		g.spots = [2]*list.Element{}
	}
}

func (c *crowd) leave(g *guest) {
	if g.gone {
		return
	}
	g.gone = true
	c.unwait(g)
	c.open--
	p := c.from[g.addr]
	if p.open--; p.open == 0 {
		delete(c.from, g.addr)
	}
}

// serve notes that a request of the guest's is being answered, until the
// returned func is called.
func (g *guest) serve() func() {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	g.busy++
	g.c.unwait(g)
	return func() {
		g.c.mu.Lock()
		defer g.c.mu.Unlock()
		if g.busy--; g.busy == 0 && !g.gone {
			g.c.wait(g)
		}
	}
}

func (g *guest) Close() error {
	g.c.mu.Lock()
	g.c.leave(g)
	g.c.mu.Unlock()
	return g.Conn.Close()
}

// CloseWrite is how net/http lets a client read an answer before it is gone.
func (g *guest) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// door is a listener whose connections are guests.
type door struct {
	net.Listener
	c     *crowd
	plain bool // it can be said in HTTP that there is no room
}

// noRoom is said to those who are turned away.
var noRoom = func() []byte {
	body := `{"detail":"too many connections","code":"unavailable","hint":"try again in a bit"}`
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"+
		"Connection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}()

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := d.c.admit(conn); g != nil {
			return g, nil
		}
		if d.plain {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // there is room for so little
			_, _ = conn.Write(noRoom)
		}
		conn.Close()
	}
}
