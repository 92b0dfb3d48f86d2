package kernel

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// found is what a source gives: files, not yet looked into.
type found struct {
	source  string // for kernel.json and messages
	image   string // a kernel file, in any wrapping
	config  string // path of the build's configuration, "" = none
	modules string // a directory of modules, "" = none
	local   bool   // the image is a file of this machine: its modules may be in /lib/modules
}

// stage makes a kernel of what was found, in the new directory dir: complete,
// on the disk, and seen by nobody.
func stage(dir string, f found, o InstallOptions) (*Kernel, error) {
	k := &Kernel{Source: f.source}
	k.at(dir)
	if err := os.Mkdir(k.Modules, 0o755); err != nil {
		return nil, err
	}
	if err := extract(f.image, k.Vmlinux); err != nil {
		return nil, err
	}
	facts, err := inspect(k.Vmlinux)
	if err != nil {
		return nil, err
	}
	if facts.Arch != o.Arch {
		return nil, wire.Errorf(wire.Invalid, "a kernel for %s, not for %s", facts.Arch, o.Arch)
	}
	k.Arch, k.PVH, k.Version = facts.Arch, facts.PVH, facts.Version
	if k.Version == "" {
		k.Version = "unknown"
	}
	if err := k.takeModules(f, facts, o); err != nil {
		return nil, err
	}
	st, err := os.Stat(k.Vmlinux)
	if err != nil {
		return nil, err
	}
	k.Size = st.Size()
	if k.Digest, err = k.sum(); err != nil {
		return nil, err
	}
	meta, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, err
	}
	err = writeSynced(filepath.Join(dir, metaFile), strings.NewReader(string(meta)+"\n"))
	return k, errors.Join(err, syncDir(k.Modules), syncDir(dir))
}

// takeModules copies the modules that sandboxes need beside the kernel and
// notes where each driver is.
func (k *Kernel) takeModules(f found, facts facts, o InstallOptions) error {
	if f.modules == "" && f.local && facts.Version != "" {
		if dir := filepath.Join("/lib/modules", facts.Version); isDir(dir) {
			f.modules = dir
		}
	}
	config := facts.config
	if f.config != "" && config == nil {
		b, err := os.ReadFile(f.config)
		if err != nil {
			return err
		}
		config = b
	}
	var t *moduleTree
	if f.modules != "" {
		var err error
		if t, err = readModuleTree(f.modules); err != nil {
			return err
		}
		names := make([]string, 0, len(drivers))
		for name := range drivers {
			names = append(names, name)
		}
		if k.Load, err = t.collect(k.Modules, names); err != nil {
			return err
		}
	}
	k.Drivers = where(t, k.Load, config)
	if err := lacking(k.Drivers, o.Require, k.PVH); err != nil {
		return wire.Errorf(wire.Invalid, "the kernel %s doesn't suit: %w", k.Version, err)
	}
	var order strings.Builder
	for _, m := range k.Load {
		order.WriteString(m.File + "\n")
	}
	return writeSynced(filepath.Join(k.Modules, orderFile), strings.NewReader(order.String()))
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// publish gives the staged kernel its name under dir and makes it the current
// one. A kernel of that digest that is whole stays; a damaged one is replaced.
func publish(dir string, k *Kernel) (*Kernel, error) {
	name := strings.TrimPrefix(k.Digest, "sha256:")[:12]
	final := filepath.Join(dir, name)
	old, err := open(final)
	if err == nil {
		err = old.Verify()
	}
	if err != nil {
		if err := os.Rename(final, k.Dir+"-old"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := os.Rename(k.Dir, final); err != nil {
			return nil, err
		}
	}
	if err := link(dir, name); err != nil {
		return nil, err
	}
	return open(final)
}

// link points current at name in one step.
func link(dir, name string) error {
	tmp := filepath.Join(dir, stagePattern+currentLink)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(name, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, currentLink)); err != nil {
		return err
	}
	return syncDir(dir)
}
