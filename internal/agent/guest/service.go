// Package guest is the agent: PID 1 of every sandbox, which mounts what the
// image and the disk make together, and serves processes and files to the host.
//
// It lives in the guest's memory with programs that nobody trusts. What they
// do (fork, flood, eat, unlink) may cost them their own output and no more.
package guest

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

const (
	maxRunning = 512 // processes at once
	maxEnded   = 256 // processes whose end is remembered
	endedBytes = 4   // one part in this many of all output kept is theirs
)

// ServeConfig configures the service. The zero value is what a guest needs
// once its root is switched.
type ServeConfig struct {
	// Fake runs the service as an ordinary program, for tests: it sets no clock
	// and no hostname, reaps nobody else's children, and its shutdown ends it
	// instead of the machine. Files are looked up under Root, which is where
	// processes start, too. Users are switched only if it runs as root.
	Fake bool
	Root string // with Fake: an existing directory

	Version string      // of the agent, for HelloReply
	Failure *wire.Error // why this guest can't work, for HelloReply; everything else is refused with it
	Disk    *os.File    // a directory of the disk's file system, to grow it by
	Cgroup  string      // cgroup2 directory to use, made if its parent exists; "": none
	Log     func(format string, args ...any)
	Greeted func() // called at every hello
}

// service is what the agent serves: its processes and files. Sessions with
// hosts come and go; it stays.
type service struct {
	cfg     ServeConfig
	reaper  *reaper
	cgroups *cgroups
	budget  *budget
	log     func(format string, args ...any)
	wg      sync.WaitGroup // what must end before close returns

	mu       sync.Mutex
	clockSet bool
	hostname string
	names    []string // in /etc/hosts by the last Identity
	procs    map[string]*process
	taken    map[string]bool // ids of processes that are being started
	ended    []*process      // oldest first
	ends     int             // how many there have been
	news     chan struct{}   // closed at the next; nil while nobody waits
	leftover []*cgroup       // of ended processes, with something still running in them
	lastID   int
	thawing  *time.Timer   // while all processes are frozen: when they no longer are
	stopping bool          // no process is started any more
	closed   bool          // no request is served any more
	stopped  chan struct{} // closed by shutdown
}

// Serve serves one byte stream until ctx ends, the stream is dead or the host
// asks for a shutdown: then it returns nil. It closes rw if that can be closed.
func Serve(ctx context.Context, rw io.ReadWriter, cfg ServeConfig) error {
	s := newService(cfg)
	defer s.close()
	return s.serve(ctx, wire.NewConnServer(rw))
}

func newService(cfg ServeConfig) *service {
	s := &service{
		cfg:     cfg,
		reaper:  newReaper(!cfg.Fake),
		budget:  &budget{limit: outputBudget()},
		log:     cfg.Log,
		procs:   map[string]*process{},
		taken:   map[string]bool{},
		stopped: make(chan struct{}),
	}
	if s.log == nil {
		s.log = func(string, ...any) {}
	}
	if cfg.Cgroup != "" {
		var err error
		if s.cgroups, err = openCgroups(cfg.Cgroup); err != nil {
			s.log("no cgroups in %s, process groups must do: %v", cfg.Cgroup, err)
		}
	}
	return s
}

// outputBudget is the memory that the output of all processes may take.
func outputBudget() int64 {
	total, _ := memory()
	return min(max(total/24, 2<<20), 16<<20)
}

func (s *service) serve(ctx context.Context, server *wire.Server) error {
	over := make(chan error, 1)
	go func() {
		for {
			m, err := server.Accept(s.hello)
			if err != nil {
				over <- err
				return
			}
			go s.session(m)
		}
	}()
	var err error
	select {
	case err = <-over:
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.stopped:
	}
	server.Close()
	return err
}

func (s *service) session(m *wire.Mux) {
	for {
		st, req, err := m.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			st.Close()
		} else {
			s.wg.Go(func() { s.handle(st, req) })
		}
		s.mu.Unlock()
	}
}

// handle answers one stream. Should it panic, then only this stream suffers.
func (s *service) handle(st *wire.Stream, req wire.Request) {
	defer st.Close()
	defer func() {
		if v := recover(); v != nil {
			s.log("panic in %s: %v\n%s", req.Op, v, debug.Stack())
			st.Reset(wire.Errorf(wire.Internal, "doing %s in the guest: the agent failed: %v", req.Op, v))
		}
	}()
	answer, err := s.dispatch(st, &req)
	if err != nil {
		answer = &wire.Control{Error: asError(err)}
	}
	if answer != nil && st.SendControl(*answer) == nil {
		st.CloseSend()
	}
}

// dispatch does what req asks. The answer it returns is the last message.
func (s *service) dispatch(st *wire.Stream, req *wire.Request) (*wire.Control, error) {
	if s.cfg.Failure != nil && req.Op != wire.OpShutdown {
		return nil, s.cfg.Failure
	}
	switch {
	case req.Op == wire.OpStart && req.Start != nil:
		return s.startAndAttach(st, req.Start)
	case req.Op == wire.OpAttach && req.Attach != nil:
		return s.attachTo(st, req.Attach)
	case req.Op == wire.OpProcesses:
		return done(0, s.list(st))
	case req.Op == wire.OpFollow:
		return nil, s.follow(st)
	case req.Process != nil:
		return s.onProcess(st, req.Op, req.Process)
	case req.Op == wire.OpSignal && req.Signal != nil:
		return done(0, s.signal(req.Signal))
	case req.Op == wire.OpIdentity && req.Identity != nil:
		return done(0, s.become(req.Identity))
	case req.Op == wire.OpFreeze && req.Freeze != nil:
		return done(0, s.freeze(req.Freeze))
	case req.Op == wire.OpGrow && req.Grow != nil:
		return done(s.growDisk(req.Grow.Bytes))
	case req.Op == wire.OpStats:
		stats := s.stats()
		return &wire.Control{Stats: &stats}, nil
	case req.Op == wire.OpStat && req.Stat != nil:
		stat, err := s.stat(req.Stat.Path)
		return &wire.Control{Stat: &stat}, err
	case req.Op == wire.OpRead && req.Read != nil:
		return done(s.read(st, req.Read))
	case req.Op == wire.OpWrite && req.Write != nil:
		return done(s.write(st, req.Write))
	case req.Op == wire.OpFind && req.Find != nil:
		return done(s.find(st, req.Find))
	case req.Op == wire.OpSearch && req.Search != nil:
		return done(s.search(st, req.Search))
	case req.Op == wire.OpLines && req.Lines != nil:
		return done(s.lines(st, req.Lines))
	case req.Op == wire.OpWatch && req.Watch != nil:
		return done(s.watch(st, req.Watch))
	case req.Change != nil:
		return done(s.change(req.Op, req.Change))
	case req.Op == wire.OpTreeRead && req.Tree != nil:
		return done(s.readTree(st, req.Tree))
	case req.Op == wire.OpTreeWrite && req.Tree != nil:
		return done(s.writeTree(st, req.Tree))
	case req.Op == wire.OpDial && req.Dial != nil:
		return nil, s.dial(st, req.Dial)
	case req.Op == wire.OpShutdown && req.Shutdown != nil:
		return s.shutdown(st, req.Shutdown.Grace)
	}
	return nil, wire.Errorf(wire.Invalid, "serving the host: unknown or empty request %q", req.Op)
}

func done(n int64, err error) (*wire.Control, error) {
	return &wire.Control{Done: &wire.Done{Bytes: n}}, err
}

func asError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	return wire.Errorf(wire.Internal, "%w", err)
}

// start starts a process and opens the view of whoever asked for it.
func (s *service) start(r *wire.StartRequest) (*process, *view, error) {
	id, err := s.reserve(r.ID)
	if err != nil {
		return nil, nil, err
	}
	p := &process{
		s: s, id: id, user: r.User, ring: newRing(s.budget),
		ended: make(chan struct{}), over: make(chan struct{}), input: make(chan []byte, 2),
	}
	v, _ := p.ring.view(0) // before there is output: none is lost
	v.owner = true
	sp, err := s.resolve(r)
	if err == nil {
		p.argv, p.dir = shorten(sp.argv), sp.shown
		err = p.launch(r, sp)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, id)
	if err != nil {
		return nil, nil, err
	}
	s.procs[id] = p
	s.wg.Go(func() { p.run(r.Timeout) })
	if r.Linger > 0 && p.tty != nil {
		s.wg.Go(func() { p.linger(r.Linger) })
	}
	if s.stopping {
		p.kill()
	}
	return p, v, nil
}

// reserve takes the id that the host chose, or the next free number.
func (s *service) reserve(id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return "", wire.Errorf(wire.Unavailable, "starting a process: the guest is shutting down")
	}
	if n := len(s.procs) - len(s.ended) + len(s.taken); n >= maxRunning {
		return "", wire.Errorf(wire.Exhausted, "starting a process: %d are running, the most that a sandbox may have", n)
	}
	for id == "" {
		s.lastID++
		if next := strconv.Itoa(s.lastID); s.procs[next] == nil && !s.taken[next] {
			id = next
		}
	}
	if !validID(id) {
		return "", wire.Errorf(wire.Invalid, "starting a process: bad id %q: want up to 64 letters, digits, '.', '_' and '-'", id)
	}
	if s.procs[id] != nil || s.taken[id] {
		return "", wire.Errorf(wire.Conflict, "starting a process: there is one with id %q", id)
	}
	s.taken[id] = true
	return id, nil
}

func validID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(id) <= 64
}

// retire moves an ended process to those remembered, and forgets the oldest.
func (s *service) retire(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, p)
	s.ends++
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
	for len(s.ended) > maxEnded {
		delete(s.procs, s.ended[0].id)
		s.ended[0].ring.drop()
		s.ended[0] = nil
		s.ended = s.ended[1:]
	}
	kept := int64(0)
	for _, old := range slices.Backward(s.ended) {
		if kept += int64(old.ring.size()); kept > s.budget.limit/endedBytes {
			old.ring.drop()
		}
	}
}

// tidy removes the cgroups of processes that have ended, but those with
// something still in them.
func (s *service) tidy(p *process) {
	s.mu.Lock()
	left := s.leftover
	s.leftover = nil
	s.mu.Unlock()
	if p.cgroup != nil {
		left = append(left, p.cgroup)
	}
	left = slices.DeleteFunc(left, (*cgroup).remove) // takes the kernel a while: not under the lock
	s.mu.Lock()
	s.leftover = append(s.leftover, left...)
	s.mu.Unlock()
}

func (s *service) process(id string) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.procs[id]; p != nil {
		return p, nil
	}
	return nil, wire.Errorf(wire.NotFound, "looking up process %q: the guest has none with this id", id)
}

// onProcess answers what concerns one process and carries none of its output.
func (s *service) onProcess(st *wire.Stream, op wire.Op, r *wire.ProcessRequest) (*wire.Control, error) {
	p, err := s.process(r.Process)
	if err != nil {
		return nil, err
	}
	switch op {
	case wire.OpInput:
		return done(p.write(st, r.Close))
	case wire.OpResize:
		return done(0, p.resize(r.Size))
	case wire.OpWait:
		select {
		case <-p.over:
			return &wire.Control{Exit: p.exit}, nil
		case <-st.Done():
			return nil, nil
		}
	}
	return nil, wire.Errorf(wire.Invalid, "serving the host: unknown request %q", op)
}

func (s *service) signal(r *wire.SignalRequest) error {
	p, err := s.process(r.Process)
	if err != nil {
		return err
	}
	return p.signal(r.Signal, r.All)
}

// credential switches to id. A fake that is not root can't, and stays itself.
func (s *service) credential(id ident) *syscall.Credential {
	if s.cfg.Fake && os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: id.uid, Gid: id.gid, Groups: id.groups}
}

// close ends everything that a fake started. A guest's service ends with its machine.
func (s *service) close() {
	s.mu.Lock()
	s.stopping, s.closed = true, true
	s.mu.Unlock()
	s.end(unix.SIGKILL)
	s.mu.Lock()
	procs := slices.Collect(maps.Values(s.procs))
	s.mu.Unlock()
	for _, p := range procs {
		<-p.ended
		for _, pump := range p.pumps {
			pump.file.Close() // something that escaped us may hold the other end
		}
	}
	s.wg.Wait()
	for _, g := range s.leftover {
		g.sweep(time.Second)
	}
}
