package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// state gives a disk with a state directory: the lab's own kernel, and the bases
// that this host's state directory has. It is made anew when those have changed.
func (c cache) state(ctx context.Context, kernels string) (string, error) {
	from, err := store.DefaultDir()
	if err != nil {
		return "", err
	}
	bases, _ := filepath.Glob(filepath.Join(store.Layout(from).Bases(), "*.ext4"))
	sum := sha256.New()
	fmt.Fprintln(sum, kernels)
	for _, b := range bases {
		if fi, err := os.Stat(b); err == nil {
			fmt.Fprintln(sum, b, fi.Size(), fi.ModTime())
		}
	}
	out := filepath.Join(c.dir, "state-"+hex.EncodeToString(sum.Sum(nil)[:6])+".ext4")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	if len(bases) == 0 {
		fmt.Fprintf(os.Stderr, "lab: no base in %s, so none in the lab; for one: bandsox init\n", from)
	}
	s, err := c.scratch()
	if err != nil {
		return "", err
	}
	defer s.remove()
	to := store.Layout(filepath.Join(s.dir, "state"))
	if err := os.MkdirAll(to.Bases(), 0o700); err != nil {
		return "", err
	}
	copies := [][]string{{kernels, to.Kernels()}}
	for _, b := range bases {
		copies = append(copies, []string{b, to.Bases()}, []string{strings.TrimSuffix(b, ".ext4") + ".json", to.Bases()})
	}
	for _, args := range copies {
		if err := run(ctx, "cp", append([]string{"-a", "--reflink=auto"}, args...)...); err != nil {
			return "", err
		}
	}
	tmp := filepath.Join(s.dir, "state.ext4")
	err = run(ctx, "mke2fs", "-q", "-t", "ext4", "-d", to.Dir(), "-E", "root_owner=0:0", tmp, "16G")
	if err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(c.dir, "state-*.ext4"))
	for _, path := range old { // a lab that has it open keeps it
		os.Remove(path)
	}
	return out, os.Rename(tmp, out)
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if b, err := cmd.CombinedOutput(); err != nil {
		return wire.Errorf(wire.Internal, "running %s: %w: %s", name, err, strings.TrimSpace(string(b)))
	}
	return nil
}
