package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/store"
)

// The audit log's bounds: so much of it is kept, in memory until it is written,
// and on disk.
const (
	auditQueue = 4096
	auditBytes = 8 << 20
	auditFiles = 4
)

// audit writes down who did what. Requests don't wait for it: when the disk
// can't keep up, the log says how many entries it lacks.
type audit struct {
	file  *store.Rotating
	log   *slog.Logger
	queue chan auth.Event
	flush chan chan struct{} // answered when what came before is written
	done  chan struct{}
	next  int64
	lost  atomic.Int64
}

// openAudit opens the log at path, "" for none.
func openAudit(path string, log *slog.Logger) (*audit, error) {
	if path == "" {
		return nil, nil
	}
	file, err := store.OpenRotating(path, auditBytes, auditFiles)
	if err != nil {
		return nil, err
	}
	a := &audit{file: file, log: log, queue: make(chan auth.Event, auditQueue), flush: make(chan chan struct{}), done: make(chan struct{}), next: 1}
	for e := range a.newest() {
		a.next = e.ID + 1
		break
	}
	go a.write()
	return a, nil
}

// note is told of each event. It doesn't block.
func (a *audit) note(e auth.Event) {
	select {
	case a.queue <- e:
	default:
		a.lost.Add(1)
	}
}

func (a *audit) write() {
	defer close(a.done)
	for {
		select {
		case e, ok := <-a.queue:
			if !ok {
				return
			}
			a.put(e)
		case answer := <-a.flush:
			for range len(a.queue) {
				if e, ok := <-a.queue; ok {
					a.put(e)
				}
			}
			close(answer)
		}
	}
}

func (a *audit) put(e auth.Event) {
	lost := a.lost.Swap(0)
	line := append(api.JSON(api.AuditEntry{ID: a.next, Lost: lost, Event: e}), '\n')
	if _, err := a.file.Write(line); err != nil {
		if a.lost.Add(lost+1) == lost+1 && lost == 0 { // the first of many
			a.log.Error("audit log", "err", err)
		}
		return
	}
	a.next++
}

// newest yields the entries, the newest first.
func (a *audit) newest() func(yield func(api.AuditEntry) bool) {
	return func(yield func(api.AuditEntry) bool) {
		oldest := int64(math.MaxInt64) // a file may be given its next name meanwhile
		for _, path := range a.file.Paths() {
			b, err := os.ReadFile(path)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					a.log.Error("audit log", "err", err)
				}
				continue
			}
			for len(b) > 0 {
				at := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
				var e api.AuditEntry
				// Half a line, of a server that was killed, is none.
				if json.Unmarshal(b[at:], &e) == nil && e.ID < oldest {
					if oldest = e.ID; !yield(e) {
						return
					}
				}
				b = b[:at]
			}
		}
	}
}

// close writes down what is still to be, when nothing comes any more.
func (a *audit) close() error {
	if a == nil {
		return nil
	}
	close(a.queue)
	<-a.done
	return a.file.Close()
}

type listAudit struct {
	Limit int   `query:"limit" minimum:"1" maximum:"10000" default:"100"`
	After int64 `query:"after" minimum:"0" doc:"The id of the last entry of the page before: the header Bandsox-Next of its answer"`
}

type auditList struct {
	Next string `header:"Bandsox-Next" doc:"What to ask for as after, if there may be more"`
	Body []api.AuditEntry
}

func (s *Server) listAudit(ctx context.Context, in *listAudit) (*auditList, error) {
	out := &auditList{Body: []api.AuditEntry{}}
	if s.audit == nil {
		return out, nil
	}
	answer := make(chan struct{})
	select {
	case s.audit.flush <- answer:
		<-answer
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for e := range s.audit.newest() {
		if in.After > 0 && e.ID >= in.After {
			continue
		}
		if len(out.Body) == in.Limit {
			out.Next = strconv.FormatInt(out.Body[in.Limit-1].ID, 10)
			break
		}
		out.Body = append(out.Body, e)
	}
	return out, nil
}
