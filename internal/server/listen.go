package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox"
)

// What a client may do to a connection before it is cut off.
const (
	headerTime     = 10 * time.Second // to send a request's header
	idleTime       = 2 * time.Minute  // between two requests
	maxHeaderBytes = 64 << 10
	maxConns       = 8192 // and at most half the files that this process may open
	graceTime      = 10 * time.Second
)

// Listen is where a server is reached.
type Listen struct {
	Socket   net.Listener  // whoever may open it is known as auth.Local; nil: none
	TCP      net.Listener  // nil: none
	TLS      *tls.Config   // of TCP; nil: none
	MaxConns int           // to TCP at once; 0: a number that fits this process
	IdleExit time.Duration // end when nothing has been asked for so long and no sandbox runs; 0: never
	Ready    func()        // called when it answers; may be nil
}

type connKey struct{}

// fromSocket reports whether a request came through the server's own socket.
func fromSocket(r *http.Request) bool {
	_, ok := r.Context().Value(connKey{}).(*net.UnixConn)
	return ok
}

// Run answers on l until ctx ends, then gives what is being answered a while.
// It closes the listeners.
func (s *Server) Run(ctx context.Context, l Listen) error {
	quiet := log.New(faults{s.log}, "", 0)
	srv := &http.Server{Handler: s, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes, ErrorLog: quiet,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			return context.WithValue(ctx, connKey{}, c)
		}}
	if l.TLS != nil { // the socket's Serve would settle that there is no HTTP/2
		srv.TLSConfig = l.TLS.Clone()
		srv.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	serve := func(f func() error) {
		serving.Go(func() {
			if err := f(); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	if l.Socket != nil {
		serve(func() error { return srv.Serve(l.Socket) })
	}
	if l.TCP != nil {
		tcp := &door{Listener: l.TCP, c: newCrowd(mostConns(l.MaxConns)), plain: l.TLS == nil}
		if l.TLS == nil {
			serve(func() error { return srv.Serve(tcp) })
		} else {
			serve(func() error { return srv.ServeTLS(tcp, "", "") })
		}
	}
	if l.Ready != nil {
		l.Ready()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-s.idle(ctx, l.IdleExit):
		s.log.Info("nothing to do: ending")
	}
	s.EndStreams()
	grace, cancel := context.WithTimeout(context.Background(), graceTime)
	defer cancel()
	if e := srv.Shutdown(grace); e != nil {
		s.log.Warn("requests were cut off", "open", s.traffic.now())
		_ = srv.Close()
	}
	serving.Wait()
	s.traffic.settle(grace)
	return err
}

// faults takes what net/http says. Most of it is what clients do wrong, and of no
// interest; a handler that has panicked is a fault of ours, and may have left a
// lock behind.
type faults struct{ log *slog.Logger }

func (f faults) Write(b []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.HasPrefix(b, []byte("http: panic serving")) {
		level = slog.LevelError
	}
	f.log.Log(context.Background(), level, string(bytes.TrimSpace(b)))
	return len(b), nil
}

// mostConns is how many connections there may be: half the files that may be
// open are for machines and disks.
func mostConns(asked int) int {
	if asked > 0 {
		return asked
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil || lim.Cur/2 > maxConns {
		return maxConns
	}
	return int(lim.Cur / 2)
}

// traffic counts what is being asked for.
type traffic struct {
	mu   sync.Mutex
	open int
	last time.Time // when there was none any more
}

// enter notes a request until the returned func is called.
func (t *traffic) enter(r *http.Request) func() {
	t.mu.Lock()
	t.open++
	t.mu.Unlock()
	done := func() {}
	if g, ok := r.Context().Value(connKey{}).(*guest); ok {
		done = g.serve()
	}
	return func() {
		done()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open--
		t.last = time.Now()
	}
}

func (t *traffic) now() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// settle waits until nothing is being answered: net/http doesn't for WebSockets.
func (t *traffic) settle(ctx context.Context) {
	for t.now() > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

// quiet is how long nothing has been asked for.
func (t *traffic) quiet() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open > 0 {
		return 0
	}
	return time.Since(t.last)
}

// idle is closed when nothing has been asked for so long and no machine is
// there. Streams are requests that are still open.
func (s *Server) idle(ctx context.Context, after time.Duration) <-chan struct{} {
	if after <= 0 {
		return nil
	}
	c := make(chan struct{})
	go func() {
		tick := time.NewTicker(max(after/8, 10*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.closing.Done():
				return
			case <-tick.C:
			}
			if s.traffic.quiet() >= after && !s.machines(ctx) {
				close(c)
				return
			}
		}
	}()
	return c
}

// machines reports whether a sandbox has a machine: its times are kept here.
func (s *Server) machines(ctx context.Context) bool {
	list, err := s.m.List(ctx, bandsox.ListOptions{
		States: []bandsox.State{bandsox.StateCreating, bandsox.StateRunning, bandsox.StatePaused}})
	return err != nil || len(list) > 0
}
