package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// BenchmarkHTTP is what HTTP adds to an exec of `true`: by the library, over a
// server as it really listens, and a bare request of the same bodies that does
// nothing, in turns. make bench shows it.
func BenchmarkHTTP(b *testing.B) {
	m, base := listen(b)
	sb, err := m.Create(b.Context(), bandsox.CreateOptions{Image: vmtest.Image(b), Name: "ann"})
	if err != nil {
		b.Fatal(err)
	}
	defer sb.Delete(context.Background())
	c, err := client.Dial(b.Context(), base, client.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	far, err := c.Get(b.Context(), "ann")
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	h := &http.Client{Transport: transport}
	nothing := bare(b)
	ways := []struct {
		name string
		do   func() error
	}{
		{"library", func() error { return sb.Command("true").Run(b.Context()) }},
		{"http", func() error { return post(b.Context(), h, base+"/api/vms/ann/exec") }},
		{"client", func() error { return far.Command("true").Run(b.Context()) }},
		{"bare", func() error { return post(b.Context(), h, nothing) }},
	}
	took := make([][]time.Duration, len(ways))
	n := 0
	for b.Loop() {
		for k := range ways {
			i := (n + k) % len(ways)
			began := time.Now()
			if err := ways[i].do(); err != nil {
				b.Fatal(ways[i].name, err)
			}
			took[i] = append(took[i], time.Since(began))
		}
		n++
	}
	at := func(i int, p float64) float64 {
		slices.Sort(took[i])
		return took[i][int(p*float64(len(took[i])-1))].Seconds() * 1000
	}
	for i, w := range ways {
		b.ReportMetric(at(i, 0.5), w.name+"-p50-ms")
		b.ReportMetric(at(i, 0.99), w.name+"-p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

func post(ctx context.Context, h *http.Client, url string) error {
	body, _ := json.Marshal(api.Exec{Program: api.Program{Args: []string{"true"}}})
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var out api.Executed
	err = json.NewDecoder(resp.Body).Decode(&out)
	_, _ = io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != 200 || out.ExitCode != 0) {
		err = fmt.Errorf("%s: %+v", resp.Status, out)
	}
	return err
}

// bare is a server that reads and answers the same, and does nothing.
func bare(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in api.Exec
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(api.JSON(api.Executed{}))
	})}
	go s.Serve(l)
	b.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

// listen is a manager of processes and a server of it as it really listens.
func listen(b *testing.B) (*bandsox.Manager, string) {
	dir := b.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	m, err := bandsox.Open(b.Context(), bandsox.Config{Storage: dir, Driver: "process", Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "auth.json")), Version: "test", Log: quiet,
		Audit: filepath.Join(dir, "audit.jsonl")})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, server.Listen{TCP: l}) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, s.Close(), m.Close()); err != nil {
			b.Error(err)
		}
	})
	return m, "http://" + l.Addr().String()
}
