package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
)

// TestLoad: of many clients at once none fails, and memory and goroutines are
// after it what they were before.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	const clients, lasts = 200, 10 * time.Second
	h := newHouse(t)
	h.create(bandsox.CreateOptions{Name: "ann"})
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	client := &http.Client{Transport: transport}
	ask := func(ctx context.Context, method, path, body string) error {
		req, err := http.NewRequestWithContext(ctx, method, h.URL+path, strings.NewReader(body))
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
	round := func(lasts time.Duration) {
		t.Helper()
		ends := time.Now().Add(lasts)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				file := fmt.Sprintf("/api/vms/ann/file?path=/f%d", i)
				for n := i; n < i+4 || time.Now().Before(ends); n++ { // each kind at least once
					what := [4][3]string{{"POST", "/api/vms/ann/exec", `{"args":["true"]}`}, {"PUT", file, "some text"},
						{"GET", "/api/vms", ""}, {"GET", "/api/vms/ann/files?path=/", ""}}[n%4]
					if err := ask(t.Context(), what[0], what[1], what[2]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		transport.CloseIdleConnections()
	}
	// settled is the heap and the goroutines once nothing is being answered.
	settled := func() (heap uint64, goroutines int) {
		var m runtime.MemStats
		for range 200 {
			time.Sleep(10 * time.Millisecond)
			if n := runtime.NumGoroutine(); n == goroutines {
				break
			} else {
				goroutines = n
			}
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, goroutines
	}
	round(0)
	heap, goroutines := settled()
	round(lasts)
	heapAfter, goroutinesAfter := settled()
	t.Logf("heap %d to %d KiB, goroutines %d to %d", heap>>10, heapAfter>>10, goroutines, goroutinesAfter)
	if heapAfter > heap+heap/2+8<<20 {
		t.Errorf("the heap grew from %d to %d KiB", heap>>10, heapAfter>>10)
	}
	if goroutinesAfter > goroutines+20 {
		t.Errorf("%d goroutines became %d", goroutines, goroutinesAfter)
	}
}
