package guest

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bandsox/bandsox/internal/wire"
)

// lastWords is how long the machine stays for a host that does not take in the
// answer.
const lastWords = time.Second

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
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if st.SendControlContext(ctx, wire.Control{Done: &wire.Done{}}) == nil {
		st.CloseSend()
		st.Flush(ctx)
	}
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
