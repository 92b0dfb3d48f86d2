package guest

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// lastWords is how long the answer may take to reach the host before the
// machine goes.
const lastWords = 30 * time.Millisecond

// shutdown ends everything that runs. The answer says that all is on the disk;
// then the service ends, and with it a guest's machine.
func (s *service) shutdown(st *wire.Stream, grace time.Duration) (*wire.Control, error) {
	s.mu.Lock()
	again := s.stopping
	s.stopping = true
	s.mu.Unlock()
	if again {
		return nil, wire.Errorf(wire.Conflict, "shutting down: it is under way already")
	}
	if !s.cfg.Fake {
		unix.Sync() // what there is to write is long written when the last one dies
	}
	if grace > 0 {
		s.end(unix.SIGTERM)
		s.end(unix.SIGCONT) // a stopped one can't hear it otherwise
		s.awaitSilence(grace)
	}
	s.end(unix.SIGKILL)
	s.awaitSilence(5 * time.Second)
	if !s.cfg.Fake {
		unix.Sync()
	}
	if st.SendControl(wire.Control{Done: &wire.Done{}}) == nil {
		st.CloseSend()
	}
	time.Sleep(lastWords)
	close(s.stopped)
	return nil, nil
}

// end signals everything that runs: in a guest all there is, in a fake what it
// started.
func (s *service) end(sig unix.Signal) {
	if !s.cfg.Fake {
		unix.Kill(-1, sig)
		return
	}
	s.mu.Lock()
	procs := make([]*process, 0, len(s.procs))
	for _, p := range s.procs {
		procs = append(procs, p)
	}
	s.mu.Unlock()
	for _, p := range procs {
		p.signal(int(sig), true)
	}
}

// awaitSilence returns when nothing runs any more, or not in time.
func (s *service) awaitSilence(patience time.Duration) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		running := len(s.procs) - len(s.ended) + len(s.taken)
		s.mu.Unlock()
		if running == 0 && (s.cfg.Fake || childless()) {
			return
		}
	}
}
