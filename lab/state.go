package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/wire"
)

// state gives a disk with a state directory: the lab's own kernel, and the base
// of bandsox/base that this host's state directory has. It is made anew when
// those have changed.
func (c cache) state(ctx context.Context, kernels string) (string, error) {
	from, err := store.DefaultDir()
	if err != nil {
		return "", err
	}
	b := findBase(store.Layout(from))
	sum := sha256.Sum256(fmt.Appendln(nil, cacheVersion, kernels, b.path, b.Digest, b.built.UnixNano()))
	out := filepath.Join(c.dir, "state-"+hex.EncodeToString(sum[:6])+".ext4")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	if b.path == "" {
		fmt.Fprintf(os.Stderr, "lab: no %s in %s, so none in the lab; for one: bandsox init\n", baseImage, from)
	}
	s, err := c.scratch()
	if err != nil {
		return "", err
	}
	defer s.remove()
	dir, disk := filepath.Join(s.dir, "state"), filepath.Join(s.dir, "state.ext4")
	if err := fill(ctx, dir, kernels, b); err != nil {
		return "", err
	}
	if err := run(ctx, "mke2fs", "-q", "-t", "ext4", "-d", dir, "-E", "root_owner=0:0", disk, "16G"); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(c.dir, "state-*.ext4"))
	for _, path := range old { // a lab that has it open keeps it
		os.Remove(path)
	}
	return out, os.Rename(disk, out)
}

// fill makes a state directory with a kernel and a base that has its names.
func fill(ctx context.Context, dir, kernels string, b base) (err error) {
	s, err := store.Open(ctx, dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := run(ctx, "cp", "-a", kernels+"/.", s.Kernels()); err != nil || b.path == "" {
		return err
	}
	if err := run(ctx, "cp", "-a", "--reflink=auto", b.path, b.info, s.Bases()); err != nil {
		return err
	}
	for _, ref := range b.Refs {
		if err := s.TagImage(ctx, ref, b.Digest); err != nil {
			return err
		}
	}
	return nil
}

// base is one in a state directory, with what its sidecar says.
type base struct {
	path, info string // "": there is none
	built      time.Time
	Digest     string
	Refs       []string
}

// findBase is that of bandsox/base, the youngest of several.
func findBase(l store.Layout) (found base) {
	sidecars, _ := filepath.Glob(filepath.Join(l.Bases(), "*.json"))
	for _, path := range sidecars {
		b := base{info: path, path: strings.TrimSuffix(path, ".json") + ".ext4"}
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &b) != nil || !store.ValidDigest(b.Digest) ||
			len(b.Refs) == 0 || !strings.HasPrefix(b.Refs[0], baseImage) {
			continue
		}
		fi, err := os.Stat(b.path)
		if err == nil && fi.ModTime().After(found.built) {
			b.built = fi.ModTime()
			found = b
		}
	}
	return found
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if b, err := cmd.CombinedOutput(); err != nil {
		return wire.Errorf(wire.Internal, "running %s: %w: %s", name, err, strings.TrimSpace(string(b)))
	}
	return nil
}
