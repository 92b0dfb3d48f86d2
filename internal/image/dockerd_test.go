package image

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// startDockerd runs a docker daemon of its own, and returns its socket.
func startDockerd(t *testing.T) string {
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
	must(t, cmd.Start())
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
	must(t, err)
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

func TestRealDocker(t *testing.T) {
	o := options(t)
	o.Docker = startDockerd(t)
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("docker", append([]string{"--host=unix://" + o.Docker}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %q: %v: %s", args, err, out)
		}
		return string(bytes.TrimSpace(out))
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("thing:1")
	must(t, err)
	// Debian's docker knows no zstd.
	want := makeImageOf(t, []compression.Compression{compression.GZip}, threeLayers...)
	must(t, tarball.WriteToFile(file, tag, want))
	docker("load", "-i", file)
	id := docker("inspect", "--format={{.Id}}", "thing:1")

	for _, ref := range []string{"docker-daemon:thing:1", "thing:1", "docker-daemon:" + id, "docker-daemon:" + id[len("sha256:"):][:12]} {
		img := open1(t, ref, o)
		if img.Digest != id || img.Source != "docker" {
			t.Errorf("%s: got %+v", ref, img)
		}
		if d := cmp.Diff(wantConfig, img.Config); d != "" {
			t.Error(ref, d)
		}
		if d := cmp.Diff(threeLayersFlat, contents(t, img)); d != "" {
			t.Error(ref, d)
		}
	}

	// What docker save writes is a docker-archive.
	saved := filepath.Join(t.TempDir(), "saved.tar")
	docker("save", "-o", saved, "thing:1")
	if d := cmp.Diff(threeLayersFlat, contents(t, open1(t, "docker-archive:"+saved+":thing:1", o))); d != "" {
		t.Error(d)
	}

	// An export that is cancelled leaves nothing, and can be tried again.
	img := open1(t, "thing:1", o)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	rc, err := img.Tar(ctx)
	must(t, err)
	if _, err := rc.Read(make([]byte, 1)); err == nil {
		t.Error("no error of a cancelled export")
	}
	rc.Close()
	if d := cmp.Diff(threeLayersFlat, contents(t, img)); d != "" {
		t.Error(d)
	}
}
