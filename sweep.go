package bandsox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
)

// sweepKernels removes the kernels that are neither the installed one nor that
// of a sandbox. A kernels directory that is a link is somebody else's.
func (m *Manager) sweepKernels(ctx context.Context, dryRun bool) ([]Leftover, error) {
	if st, err := os.Lstat(m.store.Kernels()); err != nil || !st.IsDir() {
		return nil, err
	}
	infos, err := m.infos(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, info := range infos {
		used[info.Kernel] = true
	}
	paths, err := kernel.Prune(ctx, m.store.Kernels(), used, dryRun)
	return leftovers("kernel", "no sandbox uses it and another is installed", paths), err
}

// unusedFor is how long an initial file system must have been unused: what
// boots at this moment may need it.
const unusedFor = 10 * time.Minute

// sweepInitramfs removes the initial file systems that new machines don't boot
// from: of other agents and kernels. What runs has its own in memory.
func (m *Manager) sweepInitramfs(ctx context.Context, dryRun bool) ([]Leftover, error) {
	art, err := m.artifact(ctx)
	if err != nil {
		return nil, nil // no kernel, no agent: who knows what is right
	}
	paths, err := filepath.Glob(m.store.Initramfs("*"))
	if err != nil {
		return nil, err
	}
	var old []string
	for _, path := range paths {
		st, err := os.Stat(path)
		if err != nil || path == art.initrd || time.Since(st.ModTime()) < unusedFor {
			continue
		}
		if old = append(old, path); !dryRun {
			if err := os.Remove(path); err != nil {
				return leftovers("initramfs", whyInitramfs, old), err
			}
		}
	}
	return leftovers("initramfs", whyInitramfs, old), nil
}

const whyInitramfs = "it has another kernel or agent in it"

// sweepBases removes the bases without a sidecar, which nothing finds: whoever
// built or removed them was killed between the two.
func (m *Manager) sweepBases(ctx context.Context, dryRun bool) ([]Leftover, error) {
	infos, err := m.infos(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, info := range infos {
		used[info.Digest] = true
	}
	entries, err := os.ReadDir(m.store.Bases())
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, e := range entries {
		hex, isBase := strings.CutSuffix(e.Name(), ".ext4")
		digest := "sha256:" + hex
		if !isBase || !store.ValidDigest(digest) || used[digest] {
			continue
		}
		lock, err := m.store.TryLockBase(digest)
		if errors.Is(err, store.ErrLocked) {
			continue // it is being built or removed
		} else if err != nil {
			return leftovers("base", whyBase, gone), err
		}
		if _, err = os.Lstat(m.store.BaseInfo(digest)); errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, m.store.Base(digest))
			if err = nil; !dryRun {
				err = os.Remove(m.store.Base(digest))
			}
		}
		lock.Unlock()
		if err != nil {
			return leftovers("base", whyBase, gone), err
		}
	}
	return leftovers("base", whyBase, gone), nil
}

const whyBase = "nothing says which image it is of"

// sweepBuilds removes what killed builds of bandsox/base left.
func (m *Manager) sweepBuilds(_ context.Context, dryRun bool) ([]Leftover, error) {
	paths, err := image.SweepBuilds(m.builds, dryRun)
	return leftovers("build", "its process died", paths), err
}

func leftovers(kind, why string, paths []string) []Leftover {
	var list []Leftover
	for _, path := range paths {
		list = append(list, Leftover{kind, path, why})
	}
	return list
}
