package vmtest

import (
	"context"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/wire"
)

// maxIdle is what an agent may have of a guest's memory.
const maxIdle = 8 << 20

// hostile programs cost themselves their lives, and the agent nothing.
func (s *suite) hostile() {
	c := s.connect(s.boot(s.Spec(s, "hostile", s.dir)))
	st, err := c.Stats(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	s.Logf("an idle agent has %d KiB resident", st.AgentRSS>>10)
	if st.AgentRSS > maxIdle {
		s.Errorf("an idle agent has %d bytes resident", st.AgentRSS)
	}
	s.sub("Users", func(s *suite) { s.users(c) })
	s.sub("SignalsToInit", func(s *suite) {
		if _, errs, exit := s.tool(c, "signals"); exit.Code != 0 {
			s.Errorf("%+v: %s", exit, errs)
		}
		s.answers(c)
	})
	s.sub("ForkBombTimesOut", func(s *suite) { s.bomb(c, time.Second, nil) })
	s.sub("ForkBombIsKilled", func(s *suite) {
		s.bomb(c, 0, func(p *agent.Process) error { return p.Signal(int(syscall.SIGKILL), true) })
	})
	s.sub("EatsMemory", func(s *suite) { s.eater(c) })
	if err := c.Err(); err != nil { // one session: neither guest nor agent began anew
		s.Error(err)
	}
}

// answers checks that an agent still does what it is there for.
func (s *suite) answers(c *agent.Client) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, Timeout)
	defer cancel()
	if _, err := c.Stats(ctx); err != nil {
		s.Fatal(err)
	}
	if out, _, exit := s.tool(c, "both"); out != "out\n" || exit.Code != 3 {
		s.Fatalf("a program said %q and ended with %+v", out, exit)
	}
}

// users are those of the guest's own files, as they are now. The primary group is
// among the supplementary ones, as docker has it since CVE-2022-36109.
func (s *suite) users(c *agent.Client) {
	for path, text := range map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/none\nworker:x:1234:2345::/home/worker:/none\n",
		"/etc/group":  "root:x:0:\nworkers:x:2345:\ntea:x:77:someone,worker\n",
	} {
		if _, err := c.Write(s.ctx, wire.WriteRequest{Path: path}, strings.NewReader(text)); err != nil {
			s.Fatal(err)
		}
	}
	for user, want := range map[string]string{
		"":           "0 0 [0] /root\n",
		"worker":     "1234 2345 [77 2345] /home/worker\n",
		"worker:tea": "1234 77 [77] /home/worker\n",
		"4321:9":     "4321 9 [9] /\n",
	} {
		p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "id"}, User: user})
		if err != nil {
			s.Error(err)
			continue
		}
		var out strings.Builder
		if exit, err := p.Copy(&out, io.Discard); err != nil || exit.Code != 0 || out.String() != want {
			s.Errorf("user %q is %q, want %q; %+v, %v", user, out.String(), want, exit, err)
		}
		_ = p.Close()
	}
	_, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "id"}, User: "nobody-knows"})
	if wire.CodeOf(err) != wire.Invalid || !strings.Contains(err.Error(), "nobody-knows") {
		s.Errorf("an unknown user: %v", err)
	}
}

// bomb sets off a fork bomb and ends it, by a timeout or by end.
func (s *suite) bomb(c *agent.Client, timeout time.Duration, end func(*agent.Process) error) {
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "bomb"}, Timeout: timeout})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	if end != nil {
		s.await("the bomb goes off", func() bool { return s.count(c) >= 64 })
		if err := end(p); err != nil {
			s.Fatal(err)
		}
	}
	exit, err := p.Copy(io.Discard, io.Discard)
	if err != nil || exit.Signal != int(syscall.SIGKILL) || exit.Timeout != (timeout > 0) {
		s.Errorf("got %+v, %v", exit, err)
	}
	s.await("the last of them is gone", func() bool { return s.count(c) == 0 })
	s.answers(c)
}

// count is how many processes there are that the agent started, and theirs.
func (s *suite) count(c *agent.Client) (n int) {
	s.Helper()
	_, r, err := c.Read(s.ctx, wire.ReadRequest{Path: "/sys/fs/cgroup/bandsox/pids.current"})
	if err != nil {
		s.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		s.Fatal(err)
	}
	for _, digit := range strings.TrimSpace(string(b)) {
		n = 10*n + int(digit-'0')
	}
	return n
}

func (s *suite) await(what string, there func() bool) {
	s.Helper()
	for end := time.Now().Add(Timeout); !there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("waited in vain: %s", what)
		}
	}
}

// eater is a program that wants all memory. It is told that this was its end,
// and the agent answers all the while.
func (s *suite) eater(c *agent.Client) {
	p, err := c.Start(s.ctx, wire.StartRequest{Argv: []string{s.Tool, "eat"}})
	if err != nil {
		s.Fatal(err)
	}
	defer p.Close()
	type end struct {
		exit wire.Exit
		err  error
	}
	ends := make(chan end, 1)
	go func() {
		exit, err := p.Copy(io.Discard, io.Discard)
		ends <- end{exit, err}
	}()
	for answers := 0; ; answers++ {
		select {
		case e := <-ends:
			if e.err != nil || !e.exit.OOM || e.exit.Signal != int(syscall.SIGKILL) {
				s.Errorf("got %+v, %v", e.exit, e.err)
			}
			s.Logf("the agent answered %d times meanwhile", answers)
			s.answers(c)
			return
		case <-time.After(20 * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(s.ctx, Timeout)
		_, err := c.Stats(ctx)
		cancel()
		if err != nil {
			s.Fatal(err)
		}
	}
}
