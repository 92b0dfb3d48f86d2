package vmtest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Dockerd runs a docker daemon of the test's own, and returns its socket. What
// RUN runs there has no network.
func Dockerd(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a docker daemon: left out with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts a docker daemon")
	}
	for _, bin := range []string{"dockerd", "docker"} {
		if _, err := exec.LookPath(bin); err != nil {
			t.Skipf("needs %s: %v", bin, err)
		}
	}
	dir := t.TempDir()
	sock := filepath.Join(dir, "d.sock")
	var log bytes.Buffer
	cmd := exec.Command("dockerd", "--host=unix://"+sock, "--data-root="+dir+"/data", "--exec-root="+dir+"/exec",
		"--pidfile="+dir+"/pid", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // it stops its containerd
		select {
		case <-ended:
		case <-time.After(time.Minute):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		unmountUnder(t, dir) // what it mounted, it may leave
	})
	for range 600 {
		select {
		case <-ended:
			t.Skipf("needs a docker daemon that starts: %s", tail(log.String()))
		case <-time.After(100 * time.Millisecond):
		}
		if c, err := net.Dial("unix", sock); err == nil {
			c.Close()
			if exec.Command("docker", "--host=unix://"+sock, "version").Run() == nil {
				return sock
			}
		}
	}
	t.Skip("needs a docker daemon that answers within a minute")
	return ""
}

// unmountUnder unmounts what is mounted under dir, the last mounted first.
func unmountUnder(t *testing.T, dir string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for _, line := range slices.Backward(lines) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := syscall.Unmount(f[4], syscall.MNT_DETACH); err != nil {
				t.Errorf("unmounting %s: %v", f[4], err)
			}
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-1000):] }
