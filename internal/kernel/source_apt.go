package kernel

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

// fromApt gets Debian's cloud kernel through the host's apt, which knows its
// mirrors and proxies and checks the signatures. Nothing is installed.
func fromApt(ctx context.Context, o InstallOptions, _, tmp string) (found, error) {
	for _, tool := range []string{"apt-get", "apt-cache"} {
		if _, err := exec.LookPath(tool); err != nil {
			return found{}, wire.Errorf(wire.Unavailable, "%s isn't on this machine", tool)
		}
	}
	// Not below the state directory: apt's own user must be able to reach it.
	dir, err := aptDir()
	if err != nil {
		return found{}, err
	}
	defer os.RemoveAll(dir)
	debs, name, err := aptDownload(ctx, o, dir)
	if err != nil && os.Geteuid() == 0 && ctx.Err() == nil {
		// No lists yet, or so old that the package they name is gone.
		if _, uerr := apt(ctx, dir, "apt-get", "update", "-q"); uerr != nil {
			return found{}, uerr
		}
		debs, name, err = aptDownload(ctx, o, dir)
	}
	if err != nil {
		return found{}, err
	}
	return fromPackages(ctx, found{source: "apt:" + name}, tmp, debs...)
}

func aptDir() (string, error) {
	dir, err := os.MkdirTemp("", "bandsox-apt-")
	if err != nil {
		return "", err
	}
	if u, err := user.Lookup("_apt"); err == nil && os.Geteuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		if err := os.Chown(dir, uid, -1); err != nil {
			os.RemoveAll(dir)
			return "", err
		}
	}
	return dir, nil
}

// aptDownload gets the packages of the kernel into dir.
func aptDownload(ctx context.Context, o InstallOptions, dir string) (debs []string, name string, err error) {
	pkgs, err := closure(metaPackage(o.Arch), func(pkg string) (paragraph, error) {
		out, err := apt(ctx, dir, "apt-cache", "show", "--no-all-versions", pkg+":"+o.Arch)
		if err != nil {
			return nil, err
		}
		return newest(bytes.NewReader(out), pkg)
	})
	if err != nil {
		return nil, "", aptHint(err)
	}
	for _, p := range pkgs {
		stop := watch(o, dir, p)
		_, err := apt(ctx, dir, "apt-get", "download", "-q", "-o", "APT::Get::AllowUnauthenticated=false",
			p["Package"]+":"+o.Arch+"="+p["Version"])
		stop()
		if err != nil {
			return nil, "", aptHint(err)
		}
		deb, err := aptFile(dir, p)
		if err != nil {
			return nil, "", err
		}
		debs = append(debs, deb)
	}
	return debs, pkgs[0]["Package"] + "=" + pkgs[0]["Version"], nil
}

// aptFile is the file that apt made of a package, with the sum its signed
// index has: for a moment the file was apt's user's to write.
func aptFile(dir string, p paragraph) (string, error) {
	files, _ := filepath.Glob(filepath.Join(dir, p["Package"]+"_*.deb"))
	if len(files) != 1 {
		return "", wire.Errorf(wire.Unavailable, "apt-get download left no package %s", p["Package"])
	}
	f, err := os.Open(files[0])
	if err != nil {
		return "", err
	}
	defer f.Close()
	return files[0], checkFile(f, p["SHA256"])
}

// apt runs one of apt's commands in dir, with its words in plain English.
func apt(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "running %s %s: %s", name, args[0], lastLine(stderr.String(), err))
	}
	return stdout.Bytes(), nil
}

// lastLine is apt's reason: its last line of error, else err.
func lastLine(stderr string, err error) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "E: ") {
			return strings.TrimPrefix(lines[i], "E: ")
		}
	}
	return fmt.Sprint(err)
}

func aptHint(err error) error {
	if os.Geteuid() == 0 {
		return err
	}
	return &wire.Error{Code: wire.CodeOf(err), Message: err.Error(), Hint: "sudo apt-get update", Err: err}
}

// watch reports how much of a package apt has got; the result stops it.
func watch(o InstallOptions, dir string, p paragraph) (stop func()) {
	if o.Progress == nil {
		return func() {}
	}
	total, _ := strconv.ParseInt(p["Size"], 10, 64)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				o.Progress(p["Package"], total, total)
				return
			case <-time.After(100 * time.Millisecond):
				var have int64
				files, _ := filepath.Glob(filepath.Join(dir, p["Package"]+"_*"))
				for _, f := range files {
					if st, err := os.Stat(f); err == nil {
						have += st.Size()
					}
				}
				o.Progress(p["Package"], have, total)
			}
		}
	}()
	return func() { close(quit); <-done }
}
