package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/danielgtaylor/huma/v2"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/wire"
)

func init() { metrics.ExposeMetadata(true) }

// slowBuckets are for what takes as long as a boot, or a program.
var slowBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// figures are what a server counts.
type figures struct {
	set     *metrics.Set
	streams atomic.Int64

	mu      sync.Mutex
	seen    int64                // the last event that was counted
	running map[string]time.Time // programs, by sandbox and process: when they began
}

func newFigures() *figures {
	return &figures{set: metrics.NewSet(), running: map[string]time.Time{}}
}

// count counts a route's requests and how long they take.
func (f *figures) count(rt route, h http.Handler) http.Handler {
	name := rt.method + " " + rt.path
	took := f.set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("bandsox_http_request_duration_seconds{route=%q}", name), slowBuckets)
	var counters sync.Map // by status; Set makes its name anew each time
	_, isStream := rt.do.(raw)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if isStream {
			f.streams.Add(1)
			defer f.streams.Add(-1)
		}
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		broken := true
		defer func() {
			status := any(seen.status)
			if broken && !seen.begun {
				status = "broken"
			}
			c, ok := counters.Load(status)
			if !ok {
				c, _ = counters.LoadOrStore(status, f.set.GetOrCreateCounter(fmt.Sprintf("bandsox_http_requests_total{route=%q,status=\"%v\"}", name, status)))
			}
			c.(*metrics.Counter).Inc()
			took.Update(time.Since(began).Seconds())
		}()
		h.ServeHTTP(seen, r)
		broken = false
	})
}

// lost counts a request that no route is for.
func (f *figures) lost() {
	f.set.GetOrCreateCounter(`bandsox_http_requests_total{route="none",status="404"}`).Inc()
}

// statusWriter knows the status of the answer.
type statusWriter struct {
	http.ResponseWriter
	status int
	begun  bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.begun {
		w.status = status
		w.begun = status >= 200 || status == http.StatusSwitchingProtocols
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// created counts a create: how it ended, and where its time went.
func (f *figures) created(ctx context.Context, sb *bandsox.Sandbox, took time.Duration, err error) {
	if err != nil {
		f.set.GetOrCreateCounter(fmt.Sprintf("bandsox_creates_total{result=%q}", wire.CodeOf(err))).Inc()
		return
	}
	f.set.GetOrCreateCounter(`bandsox_creates_total{result="ok"}`).Inc()
	f.set.GetOrCreatePrometheusHistogramExt("bandsox_create_duration_seconds", slowBuckets).Update(took.Seconds())
	info, err := sb.Info(ctx)
	if err != nil {
		return
	}
	for _, p := range info.Phases {
		f.set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("bandsox_create_phase_duration_seconds{phase=%q}", p.Name), slowBuckets).Update(p.Duration.Seconds())
	}
}

// maxRunning bounds the programs whose end is waited for.
const maxRunning = 10_000

// catchUp counts the events since the last look: what programs were run, and
// for how long, whoever ran them. Nothing follows them meanwhile.
func (f *figures) catchUp(ctx context.Context, m *bandsox.Manager, since time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	execs := f.set.GetOrCreateCounter("bandsox_execs_total")
	took := f.set.GetOrCreatePrometheusHistogramExt("bandsox_exec_duration_seconds", slowBuckets)
	for e, err := range m.PastEvents(ctx, f.seen) {
		if err != nil {
			return err
		}
		f.seen = e.ID
		if e.Time.Before(since) {
			continue
		}
		f.set.GetOrCreateCounter(fmt.Sprintf("bandsox_events_total{type=%q}", e.Type)).Inc()
		program := e.Sandbox + "/" + e.Details["process"]
		switch e.Type {
		case bandsox.EventProcessStarted:
			execs.Inc()
			if len(f.running) >= maxRunning {
				f.running = map[string]time.Time{}
			}
			f.running[program] = e.Time
		case bandsox.EventProcessExited:
			if began, ok := f.running[program]; ok {
				took.Update(e.Time.Sub(began).Seconds())
				delete(f.running, program)
			}
		}
	}
	return nil
}

func metricsDoc(op *huma.Operation, _ huma.Registry) {
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"text/plain": {Schema: aString}}}}
}

// metricsText answers a Prometheus. One on this machine needs no key; a proxy in
// front makes everyone seem to be here.
func (s *Server) metricsText(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if !auth.FromHere(r) || s.proxied {
		if err := s.allow(ctx, auth.NeedRead, ""); err != nil {
			return err
		}
	}
	if err := s.figures.catchUp(ctx, s.m, s.started); err != nil {
		return err
	}
	list, err := s.m.List(ctx, bandsox.ListOptions{})
	if err != nil {
		return err
	}
	states := map[bandsox.State]uint64{}
	for _, info := range list {
		states[info.Status]++
	}
	var b bytes.Buffer
	s.figures.set.WritePrometheus(&b)
	metrics.WriteMetadataIfNeeded(&b, "bandsox_sandboxes", "gauge")
	for _, state := range []bandsox.State{bandsox.StateCreating, bandsox.StateRunning, bandsox.StatePaused, bandsox.StateStopped, bandsox.StateFailed} {
		fmt.Fprintf(&b, "bandsox_sandboxes{state=%q} %d\n", state, states[state])
	}
	metrics.WriteGaugeUint64(&b, "bandsox_http_open_requests", uint64(s.traffic.now()))
	metrics.WriteGaugeUint64(&b, "bandsox_http_open_streams", uint64(max(s.figures.streams.Load()-1, 0))) // but this one
	metrics.WriteGaugeUint64(&b, fmt.Sprintf("bandsox_info{version=%q}", s.version), 1)
	metrics.WriteProcessMetrics(&b)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(b.Bytes())
	return err
}
