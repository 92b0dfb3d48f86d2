package guest

import (
	"maps"
	"slices"
	"sort"

	"github.com/bandsox/bandsox/internal/wire"
)

// list sends what is known, oldest first.
func (s *service) list(st *wire.Stream) error {
	s.mu.Lock()
	procs := slices.Collect(maps.Values(s.procs))
	s.mu.Unlock()
	// By hand: package slices would make 6 KB of it.
	for i, p := range procs {
		at := sort.Search(i, func(j int) bool { return procs[j].started.After(p.started) })
		copy(procs[at+1:i+1], procs[at:i])
		procs[at] = p
	}
	return tell(st, procs)
}

func tell(st *wire.Stream, procs []*process) error {
	for some := range slices.Chunk(procs, listedAtOnce) {
		var list wire.ProcessList
		for _, p := range some {
			list.Processes = append(list.Processes, p.info())
		}
		if err := st.SendControl(wire.Control{Processes: &list}); err != nil {
			return err
		}
	}
	return nil
}

// follow sends what is known, and then each process as it ends. What ends while
// the list is sent may come twice. A host that reads too slowly misses those
// that are forgotten meanwhile.
func (s *service) follow(st *wire.Stream) error {
	_, seen, _ := s.endedSince(0)
	if err := s.list(st); err != nil {
		return err
	}
	if err := st.SendControl(wire.Control{Done: &wire.Done{}}); err != nil {
		return err
	}
	for {
		ended, now, news := s.endedSince(seen)
		if err := tell(st, ended); err != nil {
			return err
		}
		seen = now
		select {
		case <-news:
		case <-st.Done():
			return nil
		case <-s.stopped: // the last have been told, or are about to be
			ended, _, _ := s.endedSince(seen)
			return tell(st, ended)
		}
	}
}

// endedSince is what has ended since so many had, how many have by now, and
// what is closed when there are more.
func (s *service) endedSince(seen int) ([]*process, int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news == nil {
		s.news = make(chan struct{})
	}
	n := min(s.ends-seen, len(s.ended))
	return slices.Clone(s.ended[len(s.ended)-n:]), s.ends, s.news
}
