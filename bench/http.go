package main

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
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
	"github.com/bandsox/bandsox/internal/api"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/server"
)

// benchHTTP measures what a server adds: to an exec in one guest, and under load.
func benchHTTP(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, bin string, rounds int) error {
	say("http: what it adds, on the tests' process fake")
	if err := benchHTTPCost(ctx, r); err != nil {
		return err
	}
	d, err := startDocker(ctx, filepath.Join(in.dir, "docker-http"))
	if err != nil {
		r.note("docker's API: %v", err)
	} else {
		defer d.stop()
	}
	if err := benchHTTPExec(ctx, r, m, in, d, rounds); err != nil {
		return err
	}
	return benchServed(ctx, r, in, bin)
}

// tests runs a benchmark of the tests, which have the process fake.
func tests(ctx context.Context, name, pkg string, args ...string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", "-bench", "^" + name + "$", "-timeout", "30m"}, append(args, pkg)...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the tests' %s: %w\n%s", name, err, out.String())
	}
	return metrics(out.String()), nil
}

// benchHTTPCost takes the guest out of it: its programs start in a millisecond,
// so that a tenth of that can be seen.
func benchHTTPCost(ctx context.Context, r *report) error {
	const runs = 3000
	got, err := tests(ctx, "BenchmarkHTTP", "./client", "-benchtime", fmt.Sprintf("%dx", runs))
	if err != nil {
		return err
	}
	const peer = "bare net/http, same bodies"
	for _, p := range []string{"p50", "p99"} {
		bar := ""
		if p == "p50" {
			bar = "<= 0.2 ms"
		}
		lib, bare := got["library-"+p+"-ms"], got["bare-"+p+"-ms"]
		r.add(row{What: "exec by the client on top of the library's, " + p, Unit: "ms", Ours: got["client-"+p+"-ms"] - lib, Peer: peer, Their: bare, Bar: bar, Runs: runs,
			Note: fmt.Sprintf("process fake, in turns; the library's exec took %.2f ms", lib)},
			row{What: "exec by POST on top of the library's, " + p, Unit: "ms", Ours: got["http-"+p+"-ms"] - lib, Peer: peer, Their: bare, Bar: bar, Runs: runs, Note: "process fake"})
	}
	return nil
}

// serve has m behind a server, as it really listens, until stop is called.
func serve(ctx context.Context, m *bandsox.Manager, dir string) (base string, stop func() error, err error) {
	s, err := server.New(server.Options{Manager: m, Auth: auth.Open(filepath.Join(dir, "http-auth.json")), Audit: filepath.Join(dir, "http-audit.jsonl"),
		Version: "bench", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(err, s.Close())
	}
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, server.Listen{TCP: l}) }()
	return "http://" + l.Addr().String(), func() error {
		end()
		return errors.Join(<-ended, s.Close())
	}, nil
}

// benchHTTPExec runs true in a guest by the library, over HTTP, and in a
// container of the same image by docker's API, in turns.
func benchHTTPExec(ctx context.Context, r *report, m *bandsox.Manager, in *inputs, d *docker, rounds int) (err error) {
	base, stop, err := serve(ctx, m, in.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: in.ref, MemMiB: memMiB, DiskSizeMiB: diskMiB, AutoRemove: true})
	if err != nil {
		return err
	}
	defer sb.Delete(context.WithoutCancel(ctx))
	c, err := client.Dial(ctx, base, client.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	far, err := c.Get(ctx, sb.ID())
	if err != nil {
		return err
	}
	ways := []struct {
		do   func() error
		took samples
	}{
		{do: func() error { return sb.Command("/bin/guest", "true").Run(ctx) }},
		{do: func() error { return far.Command("/bin/guest", "true").Run(ctx) }},
	}
	if d != nil {
		e, err := d.container(ctx, in)
		if err != nil {
			return err
		}
		defer e.remove(context.WithoutCancel(ctx))
		ways = append(ways, ways[0])
		ways[2].do = func() error { return e.exec(ctx, "/bin/guest", "true") }
	}
	const each = 60
	for i := range rounds {
		say("http: exec in a guest: round %d of %d", i+1, rounds)
		for n := range each + 1 {
			for k := range ways {
				w := &ways[(n+k)%len(ways)]
				took, err := timed(w.do)
				if err != nil {
					return err
				}
				if n > 0 { // the first makes connections
					w.took = append(w.took, took)
				}
			}
		}
	}
	ms := func(k int, p float64) float64 { return ways[k].took.at(p).Seconds() * 1000 }
	r.add(row{What: "exec of true in a guest over HTTP, p50", Unit: "ms", Ours: ms(1, 0.5), Peer: "the library's", Their: ms(0, 0.5), Runs: rounds * each},
		row{What: "exec of true in a guest over HTTP, p99", Unit: "ms", Ours: ms(1, 0.99), Peer: "the library's", Their: ms(0, 0.99), Runs: rounds * each})
	if d != nil {
		r.add(row{What: "exec of true over HTTP, p50", Unit: "ms", Ours: ms(1, 0.5), Peer: "docker's own API", Their: ms(2, 0.5), Bar: "ratio <= 0.20", Runs: rounds * each,
			Note: "docker's container is no machine: its program runs on this kernel, ours on an emulated processor"})
	}
	return nil
}

// container is one of docker's in which programs are run by its API.
type container struct {
	d    *docker
	name string
	http *http.Client
}

func (d *docker) container(ctx context.Context, in *inputs) (*container, error) {
	const name = "bandsox-bench-http"
	if err := d.run(ctx, "import", in.rootfs, name+":1"); err != nil {
		return nil, err
	}
	if err := d.run(ctx, "run", "-d", "--network", "none", "--name", name, name+":1", "/bin/guest", "sleep"); err != nil {
		return nil, err
	}
	return &container{d, name, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.socket())
	}}}}, nil
}

func (c *container) remove(ctx context.Context) {
	c.http.CloseIdleConnections()
	_ = c.d.run(ctx, "rm", "-f", c.name)
}

// exec is what docker exec asks for: make it, start it, read until it ends, and
// ask how.
func (c *container) exec(ctx context.Context, argv ...string) error {
	var made struct{ ID string }
	var state struct{ ExitCode int }
	ask := map[string]any{"Cmd": argv, "AttachStdout": true, "AttachStderr": true}
	if err := c.call(ctx, "POST", "/containers/"+c.name+"/exec", ask, &made); err != nil {
		return err
	}
	if err := c.call(ctx, "POST", "/exec/"+made.ID+"/start", map[string]any{}, nil); err != nil {
		return err
	}
	if err := c.call(ctx, "GET", "/exec/"+made.ID+"/json", nil, &state); err != nil {
		return err
	}
	if state.ExitCode != 0 {
		return fmt.Errorf("docker's exec ended with %d", state.ExitCode)
	}
	return nil
}

func (c *container) call(ctx context.Context, method, path string, body, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(api.JSON(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= 300:
		return fmt.Errorf("docker: %s %s: %s", path, resp.Status, strings.TrimSpace(string(b)))
	case out == nil:
		return nil
	}
	return json.Unmarshal(b, out)
}
