package vmtest

import (
	"bytes"
	"io"
	"os"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// killedWhileStreaming: who reads a program's output learns of the machine's
// end, and never takes it for the program's.
func (s *suite) killedWhileStreaming() {
	m := s.boot(s.Spec(s, "streaming", s.dir))
	c := s.connect(m)
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "tick"}})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	if _, _, err := p.Recv(); err != nil {
		s.Fatal(err)
	}
	type end struct {
		exit wire.Exit
		err  error
	}
	ends := make(chan end, 1)
	go func() {
		exit, err := p.Copy(io.Discard, io.Discard)
		ends <- end{exit, err}
	}()
	// As the kernel would for want of memory: not through the driver.
	victim, err := os.FindProcess(m.Handle().PID)
	if err != nil {
		s.Fatal(err)
	}
	began := time.Now()
	if err := victim.Kill(); err != nil {
		s.Fatal(err)
	}
	select {
	case e := <-ends:
		s.Logf("the caller knew after %v: %v", time.Since(began), e.err)
		if e.err == nil || wire.CodeOf(e.err) != wire.Unavailable {
			s.Errorf("got exit %+v, %v", e.exit, e.err)
		}
	case <-time.After(Timeout):
		s.Fatal("the caller hangs")
	}
	if err := s.ended(m); err == nil || wire.CodeOf(err) != wire.Unavailable {
		s.Errorf("Err is %v", err)
	}
	s.noSockets(s.dir)
}

// guestPowersOff is the one end that is no error.
func (s *suite) guestPowersOff() {
	m := s.boot(s.Spec(s, "off", s.dir))
	c := s.connect(m)
	if err := c.Shutdown(s.ctx, time.Second); err != nil {
		s.Fatal(err)
	}
	if err := s.ended(m); err != nil {
		s.Errorf("%v\n%s", err, s.console(m))
	}
	s.noSockets(s.dir)
	if err := m.Kill(); err != nil {
		s.Error(err)
	}
	if text := s.console(m); text == "" {
		s.Error("the console is empty after the end")
	}
}

// guestRestarts: a guest that restarts itself has ended as well as one that
// powers off.
func (s *suite) guestRestarts() {
	m := s.boot(s.Spec(s, "restart", s.dir))
	c := s.connect(m)
	s.last(c, "reboot")
	if err := s.ended(m); err != nil {
		s.Errorf("%v\n%s", err, s.console(m))
	}
}

// guestPanics: the kernel's last words are kept, and named.
func (s *suite) guestPanics() {
	m := s.boot(s.Spec(s, "panic", s.dir))
	c := s.connect(m)
	s.last(c, "sysrq", "c")
	if err := s.ended(m); err == nil || !strings.Contains(err.Error(), "panic") {
		s.Errorf("Err is %v", err)
	}
	if text := s.console(m); !strings.Contains(text, "Kernel panic") {
		s.Errorf("the console lacks the panic: %q", text)
	}
}

// last runs a tool that ends the machine, and so never ends itself.
func (s *suite) last(c *agent.Client, args ...string) {
	s.Helper()
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: append([]string{s.Tool}, args...)})
	if err != nil {
		if wire.CodeOf(err) != wire.Unavailable {
			s.Fatal(err)
		}
		return
	}
	var errs bytes.Buffer
	if exit, err := p.Copy(io.Discard, &errs); err == nil {
		s.Fatalf("%v ended with %+v: %s", args, exit, errs.String())
	}
}

// endsUnwatched: a machine that ends between two managers is gone, or says how
// it ended; it is not there for ever.
func (s *suite) endsUnwatched() {
	m := s.boot(s.Spec(s, "unwatched", s.dir))
	c := s.connect(m)
	if err := m.Release(); err != nil {
		s.Fatal(err)
	}
	if err := c.Shutdown(s.ctx, time.Second); err != nil {
		s.Fatal(err)
	}
	_ = c.Close()
	again, err := s.newDriver().Adopt(s.ctx, m.Handle())
	if err == nil {
		if err := s.ended(again); err != nil {
			s.Error(err)
		}
	} else if wire.CodeOf(err) != wire.NotFound {
		s.Error(err)
	}
	found, err := s.newDriver().Find(s.ctx, s.dir)
	if err != nil || len(found) > 0 {
		s.Errorf("left behind: %v, %v", found, err)
	}
}

// gone: a handle whose process has ended, or is another one now, is no machine.
func (s *suite) gone() {
	spec := s.Spec(s, "gone", s.dir)
	m := s.boot(spec)
	h := m.Handle()
	other := h
	other.StartTime++
	stranger := h
	stranger.PID = os.Getpid()
	for _, bad := range []vm.Handle{other, stranger} {
		if _, err := s.driver.Adopt(s.ctx, bad); wire.CodeOf(err) != wire.NotFound {
			s.Errorf("adopting %+v: %v", bad, err)
		}
	}
	dialled := make(chan error, 1)
	go func() { // nobody answers hello there: the machine is killed
		conn, err := m.Dial(s.ctx)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		dialled <- err
	}()
	if err := m.Kill(); err != nil {
		s.Fatal(err)
	}
	select {
	case err := <-dialled:
		if err == nil {
			s.Error("a dead machine spoke")
		}
	case <-time.After(Timeout):
		s.Error("dialling a dead machine hangs")
	}
	if _, err := s.driver.Adopt(s.ctx, h); wire.CodeOf(err) != wire.NotFound {
		s.Errorf("adopting the dead: %v", err)
	}
}
