package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// docker is a daemon of our own: its socket, data and state lie in one
// directory, it makes no bridge and no firewall rule, and it goes when we go.
type docker struct {
	dir    string
	daemon *exec.Cmd
}

func startDocker(ctx context.Context, dir string) (*docker, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root to start a dockerd")
	}
	for _, tool := range []string{"dockerd", "docker"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("needs %s on PATH", tool)
		}
	}
	d := &docker{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.daemon = exec.Command("dockerd", "--host=unix://"+d.socket(), "--data-root="+filepath.Join(dir, "data"),
		"--exec-root="+filepath.Join(dir, "run"), "--pidfile="+filepath.Join(dir, "pid"),
		"--iptables=false", "--bridge=none", "--storage-driver=overlay2")
	d.daemon.Stdout, d.daemon.Stderr = log, log
	d.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.daemon.Start(); err != nil {
		return nil, err
	}
	for range 150 {
		if d.run(ctx, "version") == nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			d.stop()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if d.daemon.ProcessState != nil || syscall.Kill(d.daemon.Process.Pid, 0) != nil {
			break
		}
	}
	b, _ := os.ReadFile(log.Name())
	d.stop()
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return nil, fmt.Errorf("dockerd does not start here: %s", lines[len(lines)-1])
}

func (d *docker) socket() string { return filepath.Join(d.dir, "docker.sock") }

func (d *docker) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.socket())
	return cmd
}

func (d *docker) run(ctx context.Context, args ...string) error {
	return check(d.command(ctx, args...))
}

func (d *docker) stop() {
	_ = d.daemon.Process.Signal(syscall.SIGTERM)
	gone := make(chan struct{})
	go func() {
		_ = d.daemon.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		_ = d.daemon.Process.Kill()
		<-gone
	}
}

// check runs a command whose output matters only when it fails.
func check(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// timed is how long f took.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}
