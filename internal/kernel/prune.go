package kernel

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Prune removes from dir the kernels that are neither the current one nor used,
// by their digest, and what a killed installation left. It returns the paths;
// with dryRun nothing is removed.
func Prune(ctx context.Context, dir string, used map[string]bool, dryRun bool) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(dir, currentLink)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // none is installed, or the first is at this moment
	}
	l, err := lock(ctx, filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fail(err, "looking for old kernels")
	}
	defer l.Close()
	current, err := os.Readlink(filepath.Join(dir, currentLink))
	if err != nil {
		return nil, fail(err, "looking for old kernels")
	}
	keep := map[string]bool{current: true}
	for digest := range used {
		if hex, ok := strings.CutPrefix(digest, "sha256:"); ok && len(hex) >= 12 {
			keep[hex[:12]] = true
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fail(err, "looking for old kernels")
	}
	var old []string
	for _, e := range entries {
		name := e.Name()
		stage := strings.HasPrefix(name, stagePattern)
		kernel := len(name) == 12 && strings.Trim(name, "0123456789abcdef") == ""
		if !e.IsDir() || keep[name] || !stage && !kernel {
			continue
		}
		path := filepath.Join(dir, name)
		if old = append(old, path); dryRun {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return old, fail(err, "removing an old kernel")
		}
	}
	return old, nil
}
