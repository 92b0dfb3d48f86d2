package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

const (
	bigOverHTTP = 2 << 30
	loadClients = 200
	loadGuests  = 4
	loadTime    = time.Minute
)

// served is bandsox serve in a process of its own, so that its memory is its own.
type served struct {
	cmd  *exec.Cmd
	base string
}

func startServed(ctx context.Context, bin, storage string) (*served, error) {
	cmd := exec.Command(bin, "--storage", storage, "serve", "--port", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &served{cmd: cmd}
	lines := bufio.NewScanner(out)
	for s.base == "" && lines.Scan() {
		if at := strings.Index(lines.Text(), "http://"); at >= 0 {
			s.base = strings.TrimSpace(lines.Text()[at:])
		}
	}
	go io.Copy(io.Discard, out)
	if s.base == "" {
		return nil, errors.Join(errors.New("bandsox serve did not say where it listens"), s.stop())
	}
	return s, nil
}

func (s *served) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	return s.cmd.Wait()
}

// memory is the server's resident memory in MB, now and at most so far.
func (s *served) memory() (now, peak float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			now = kib * 1024 / 1e6
		case "VmHWM:":
			peak = kib * 1024 / 1e6
		}
	}
	return now, peak, nil
}

// goroutines are the server's, by its own word.
func (s *served) goroutines(ctx context.Context) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", s.base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\ngo_goroutines ")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(line, 64)
}

// benchServed measures a server's memory: with much that passes through it, and
// with many who ask.
func benchServed(ctx context.Context, r *report, in *inputs, bin string) (err error) {
	storage, kernels := filepath.Join(in.dir, "served"), filepath.Join(in.dir, "state", "kernels")
	if err := os.CopyFS(filepath.Join(storage, "kernels"), os.DirFS(kernels)); err != nil {
		return err
	}
	s, err := startServed(ctx, bin, storage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	c, err := client.Dial(ctx, s.base, client.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	var guests []string
	defer func() {
		for _, id := range guests {
			if sb, e := c.Get(context.WithoutCancel(ctx), id); e == nil {
				err = errors.Join(err, sb.Delete(context.WithoutCancel(ctx)))
			}
		}
	}()
	for len(guests) < loadGuests {
		sb, err := c.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: memMiB, DiskSizeMiB: diskMiB})
		if err != nil {
			return err
		}
		guests = append(guests, sb.ID())
		if len(guests) == 1 {
			if err := s.big(ctx, r, sb); err != nil {
				return err
			}
		}
	}
	if err := s.load(ctx, r, guests); err != nil {
		return err
	}
	return benchFakeLoad(ctx, r)
}

// big sends a file of 2 GiB up and gets it back.
func (s *served) big(ctx context.Context, r *report, sb *client.Sandbox) error {
	say("http: 2 GiB up and down")
	up, err := timed(func() error {
		_, err := sb.WriteFrom(ctx, "/big", io.LimitReader(zeros{}, bigOverHTTP), 0o600)
		return err
	})
	if err != nil {
		return err
	}
	down, err := timed(func() error {
		f, err := sb.Open(ctx, "/big")
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(io.Discard, f)
		if err == nil && n != bigOverHTTP {
			err = fmt.Errorf("%d bytes came back", n)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, peak, err := s.memory()
	if err != nil {
		return err
	}
	const mib = float64(bigOverHTTP >> 20)
	r.add(row{What: "server resident at most, 2 GiB up and down", Unit: "MB", Ours: peak, Bar: "<= 100 MB", Runs: 1},
		row{What: "2 GiB up over HTTP", Unit: "MiB/s", Ours: mib / up.Seconds(), Runs: 1},
		row{What: "2 GiB down over HTTP", Unit: "MiB/s", Ours: mib / down.Seconds(), Runs: 1})
	return sb.Remove(ctx, "/big", bandsox.RemoveOptions{})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// loadKinds are what each client does in turn.
var loadKinds = []struct {
	name string
	do   func(ctx context.Context, c *client.Client, sb *client.Sandbox, client int) error
}{
	{"exec of true", func(ctx context.Context, _ *client.Client, sb *client.Sandbox, _ int) error {
		return sb.Command("/bin/guest", "true").Run(ctx)
	}},
	{"file written and read", func(ctx context.Context, _ *client.Client, sb *client.Sandbox, client int) error {
		path, text := fmt.Sprintf("/tmp/f%d", client), strings.Repeat("some text ", 400)
		if err := sb.WriteFile(ctx, path, []byte(text), 0o600); err != nil {
			return err
		}
		b, err := sb.ReadFile(ctx, path)
		if err == nil && string(b) != text {
			err = errors.New("the file is another one")
		}
		return err
	}},
	{"list of sandboxes", func(ctx context.Context, c *client.Client, _ *client.Sandbox, _ int) error {
		list, err := c.List(ctx, bandsox.ListOptions{})
		if err == nil && len(list) != loadGuests {
			err = fmt.Errorf("%d sandboxes", len(list))
		}
		return err
	}},
}

// load has many clients ask for a minute, each on a connection of its own.
func (s *served) load(ctx context.Context, r *report, guests []string) error {
	took := make([]samples, len(loadKinds))
	var mu sync.Mutex
	var failed []error
	round := func(lasts time.Duration) {
		ends := time.Now().Add(lasts)
		var wg sync.WaitGroup
		for i := range loadClients {
			wg.Go(func() {
				mine, err := s.client(ctx, guests[i%len(guests)], i, ends)
				mu.Lock()
				defer mu.Unlock()
				for k := range took {
					took[k] = append(took[k], mine[k]...)
				}
				if err != nil {
					failed = append(failed, err)
				}
			})
		}
		wg.Wait()
	}
	say("http: %d clients for a minute", loadClients)
	round(loadTime / 6) // what a busy server has, it keeps
	before, _, err := s.memory()
	if err != nil {
		return err
	}
	idle, err := s.goroutines(ctx)
	if err != nil {
		return err
	}
	clear(took)
	round(loadTime)
	after, _, err := s.memory()
	if err != nil {
		return err
	}
	left, err := s.goroutines(ctx)
	if err != nil {
		return err
	}
	for k, kind := range loadKinds {
		r.add(row{What: kind.name + ", 200 clients, p50", Unit: "ms", Ours: took[k].at(0.5).Seconds() * 1000, Runs: len(took[k])},
			row{What: kind.name + ", 200 clients, p99", Unit: "ms", Ours: took[k].at(0.99).Seconds() * 1000, Runs: len(took[k]),
				Note: fmt.Sprintf("%d emulated guests share this machine's processors with who asks", loadGuests)})
	}
	r.add(row{What: "errors of 200 clients", Ours: float64(len(failed)), Bar: "none", Runs: 1},
		row{What: "server resident after 200 clients", Unit: "MB", Ours: after, Peer: "before, warm", Their: before, Bar: "flat", Runs: 1},
		row{What: "server's goroutines after 200 clients", Ours: left, Peer: "before, warm", Their: idle, Bar: "flat", Runs: 1})
	if len(failed) > 0 {
		r.note("the load without errors: %v", failed[0])
	}
	return nil
}

// client is one of them.
func (s *served) client(ctx context.Context, id string, n int, ends time.Time) (took []samples, err error) {
	took = make([]samples, len(loadKinds))
	c, err := client.Dial(ctx, s.base, client.Options{})
	if err != nil {
		return took, err
	}
	defer c.Close()
	sb, err := c.Get(ctx, id)
	if err != nil {
		return took, err
	}
	for i := n; i < n+len(loadKinds) || time.Now().Before(ends); i++ {
		k := i % len(loadKinds)
		d, err := timed(func() error { return loadKinds[k].do(ctx, c, sb, n) })
		if err != nil {
			return took, fmt.Errorf("%s: %w", loadKinds[k].name, err)
		}
		took[k] = append(took[k], d)
	}
	return took, nil
}

// benchFakeLoad is the same on the process fake, whose guests take next to
// nothing: alone, and beside clients that do what they can to a server.
func benchFakeLoad(ctx context.Context, r *report) error {
	say("http: %d clients of the tests' process fake, alone and beside bad ones", loadClients)
	got, err := tests(ctx, "BenchmarkLoad", "./internal/server", "-benchtime", "1x")
	if err != nil {
		return err
	}
	for _, kind := range []string{"exec", "write", "list", "files"} {
		r.add(row{What: kind + ", fake, 200 clients, p99", Unit: "ms", Ours: got["beside-"+kind+"-p99-ms"], Peer: "without bad clients beside", Their: got["alone-"+kind+"-p99-ms"],
			Runs: int(got["beside-"+kind+"-n"]), Note: "an error of one would have ended the benchmark"})
	}
	r.add(row{What: "heap grown, fake, 200 clients and bad ones", Unit: "MB", Ours: got["beside-grown-MB"], Peer: "without", Their: got["alone-grown-MB"], Bar: "flat", Runs: 1},
		row{What: "goroutines grown, fake, the same", Ours: got["beside-grown-goroutines"], Peer: "without", Their: got["alone-grown-goroutines"], Bar: "flat", Runs: 1})
	return nil
}
