package server_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// loadEnv is how long the load lasts: 1m, say.
const loadEnv = "BANDSOX_TEST_LOAD"

// TestLoad: of many clients at once none fails, whatever others do to the server
// meanwhile, and memory and goroutines are after it what they were before.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv(loadEnv), "10s"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLoad(t)
	l.run(0)
	heap, goroutines := settled()
	bad := misbehave(t, l.addr)
	l.run(lasts)
	bad.stop()
	heapAfter, goroutinesAfter := settled()
	for _, k := range loadKinds {
		t.Logf("%s: %d, p50 %v, p99 %v", k.name, len(l.took[k.name]), l.at(k.name, 0.5), l.at(k.name, 0.99))
	}
	t.Logf("heap %d to %d KiB, goroutines %d to %d; bad clients cut off: %s", heap>>10, heapAfter>>10, goroutines, goroutinesAfter, bad)
	if heapAfter > heap+heap/2+8<<20 {
		t.Errorf("the heap grew from %d to %d KiB", heap>>10, heapAfter>>10)
	}
	if goroutinesAfter > goroutines+20 {
		t.Errorf("%d goroutines became %d", goroutines, goroutinesAfter)
	}
}

// BenchmarkLoad is a minute of the load alone and one beside bad clients. make
// bench shows it.
func BenchmarkLoad(b *testing.B) {
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv(loadEnv), "1m"))
	if err != nil {
		b.Fatal(err)
	}
	l := newLoad(b)
	l.run(0)
	heap, goroutines := settled()
	report := func(as string) {
		for _, k := range loadKinds {
			b.ReportMetric(l.at(k.name, 0.5).Seconds()*1000, as+k.name+"-p50-ms")
			b.ReportMetric(l.at(k.name, 0.99).Seconds()*1000, as+k.name+"-p99-ms")
			b.ReportMetric(float64(len(l.took[k.name])), as+k.name+"-n")
		}
		after, many := settled()
		b.ReportMetric((float64(after)-float64(heap))/1e6, as+"grown-MB")
		b.ReportMetric(float64(many-goroutines), as+"grown-goroutines")
	}
	for range b.N {
		l.run(lasts)
		report("alone-")
		bad := misbehave(b, l.addr)
		l.run(lasts)
		bad.stop()
		report("beside-")
	}
	b.ReportMetric(0, "ns/op")
}

const loadClients = 200

// loadKinds are what clients ask for, in turn.
var loadKinds = []struct{ name, method, path, body string }{
	{"exec", "POST", "/api/vms/ann/exec", `{"args":["true"]}`},
	{"write", "PUT", "/api/vms/ann/file?path=/f%d", "some text"},
	{"list", "GET", "/api/vms", ""},
	{"files", "GET", "/api/vms/ann/files?path=/", ""},
}

// load is what many clients ask of a server.
type load struct {
	*hotel
	mu   sync.Mutex
	took map[string][]time.Duration // of the last run, by kind
}

func newLoad(t testing.TB) *load {
	t.Helper()
	h := newHotel(t, server.Listen{MaxConns: mostConns}, auth.Options{})
	sb, err := h.m.Create(t.Context(), bandsox.CreateOptions{Name: "ann", Image: vmtest.Image(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sb.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &load{hotel: h}
}

// run lets every client ask for so long, and at least once for each kind.
func (l *load) run(lasts time.Duration) {
	l.t.Helper()
	l.took = map[string][]time.Duration{}
	ends := time.Now().Add(lasts)
	transport := &http.Transport{MaxIdleConnsPerHost: loadClients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	for i := range loadClients {
		wg.Go(func() {
			took := make([][]time.Duration, len(loadKinds))
			for n := i; n < i+len(loadKinds) || time.Now().Before(ends); n++ {
				k := loadKinds[n%len(loadKinds)]
				path := strings.Replace(k.path, "%d", fmt.Sprint(i), 1)
				began := time.Now()
				if err := l.ask(client, k.method, path, k.body); err != nil {
					l.t.Error(err)
					return
				}
				took[n%len(loadKinds)] = append(took[n%len(loadKinds)], time.Since(began))
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			for i, k := range loadKinds {
				l.took[k.name] = append(l.took[k.name], took[i]...)
			}
		})
	}
	wg.Wait()
}

// at is the time below which the share p of all requests of a kind took.
func (l *load) at(kind string, p float64) time.Duration {
	took := l.took[kind]
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[int(p*float64(len(took)-1))]
}

func (l *load) ask(client *http.Client, method, path, body string) error {
	req, err := http.NewRequestWithContext(l.t.Context(), method, "http://"+l.addr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if method == "POST" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, b)
	}
	return err
}

// settled is the heap and the goroutines once nothing is being answered.
func settled() (heap uint64, goroutines int) {
	var m runtime.MemStats
	same := 0
	for range 500 {
		time.Sleep(10 * time.Millisecond)
		if n := runtime.NumGoroutine(); n != goroutines {
			goroutines, same = n, 0
		} else if same++; same == 10 {
			break
		}
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, goroutines
}
