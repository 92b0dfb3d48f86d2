package kernel

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bandsox/bandsox/internal/wire"
)

// Module is one driver that must be loaded, from <dir>/modules.
type Module struct {
	Name string   `json:"name"` // as lsmod shows it: no dashes
	File string   `json:"file"` // its name in the modules directory, decompressed
	Size int64    `json:"size"`
	Deps []string `json:"deps,omitempty"` // names of those to load before it
}

const maxModule = 64 << 20

var moduleFile = regexp.MustCompile(`^([0-9A-Za-z_-]{1,128})\.ko(\.xz|\.zst|\.gz)?$`)

// moduleName is the name of the module in a file, "" when it isn't one.
func moduleName(file string) string {
	m := moduleFile.FindStringSubmatch(path.Base(file))
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "-", "_")
}

// moduleTree is the modules of one kernel as they were delivered.
type moduleTree struct {
	files   map[string]string   // name → path
	builtin map[string]bool     // nil = not told
	dep     map[string][]string // modules.dep; packages lack it, depmod makes it when they are installed
}

// readModuleTree reads what lies under dir, which is a /lib/modules/<version>
// or the flat one that unpackDebs makes.
func readModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{files: map[string]string{}}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := moduleName(p); name != "" && d.Type().IsRegular() && t.files[name] == "" {
			t.files[name] = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if b, err := os.ReadFile(filepath.Join(dir, "modules.builtin")); err == nil {
		t.builtin = map[string]bool{}
		for line := range strings.Lines(string(b)) {
			if name := moduleName(strings.TrimSpace(line)); name != "" {
				t.builtin[name] = true
			}
		}
	}
	if f, err := os.Open(filepath.Join(dir, "modules.dep")); err == nil {
		defer f.Close()
		if t.dep, err = parseModulesDep(f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// parseModulesDep reads depmod's "a.ko: b.ko c.ko" lines, by module name.
func parseModulesDep(r io.Reader) (map[string][]string, error) {
	deps := map[string][]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		file, rest, ok := strings.Cut(sc.Text(), ":")
		name := moduleName(strings.TrimSpace(file))
		if !ok || name == "" {
			continue
		}
		var needs []string
		for _, f := range strings.Fields(rest) {
			if n := moduleName(f); n != "" {
				needs = append(needs, n)
			}
		}
		deps[name] = needs
	}
	return deps, sc.Err()
}

// needs are the modules to load before the one in image, which must be there
// (hard) or are of use when they are (soft). They come from modules.dep, else
// from the module itself: modpost wrote there what depmod would find.
func (t *moduleTree) needs(name string, image []byte) (hard, soft []string, err error) {
	info, err := modinfo(image)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range info["softdep"] {
		if pre, ok := strings.CutPrefix(s, "pre:"); ok {
			pre, _, _ = strings.Cut(pre, "post:")
			soft = append(soft, strings.Fields(pre)...)
		}
	}
	hard, ok := t.dep[name]
	if !ok {
		for _, s := range info["depends"] {
			hard = append(hard, strings.FieldsFunc(s, func(r rune) bool { return r == ',' })...)
		}
	}
	for i := range hard {
		hard[i] = strings.ReplaceAll(hard[i], "-", "_")
	}
	return hard, soft, nil
}

// modinfo reads the key=value strings of a module.
func modinfo(image []byte) (map[string][]string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil || s.Size > maxModule {
		return nil, errors.New("no .modinfo section")
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	info := map[string][]string{}
	for kv := range bytes.SplitSeq(data, []byte{0}) {
		if k, v, ok := strings.Cut(string(kv), "="); ok {
			info[k] = append(info[k], v)
		}
	}
	return info, nil
}

// collector takes modules out of a tree, each after those it needs.
type collector struct {
	tree *moduleTree
	dst  string
	seen map[string]bool
	out  []Module
}

// collect writes the modules that names need to dst, decompressed, and gives
// them in an order in which they load. Names that aren't modules are skipped.
func (t *moduleTree) collect(dst string, names []string) ([]Module, error) {
	c := &collector{tree: t, dst: dst, seen: map[string]bool{}}
	for _, n := range slices.Sorted(slices.Values(names)) {
		if err := c.add(n, ""); err != nil {
			return nil, err
		}
	}
	return c.out, nil
}

func (c *collector) add(name, from string) error {
	if c.seen[name] || c.tree.builtin[name] {
		return nil
	}
	file := c.tree.files[name]
	if file == "" {
		if from == "" {
			return nil
		}
		return wire.Errorf(wire.Invalid, "reading the module %s: it needs %s, which isn't there", from, name)
	}
	c.seen[name] = true // before its needs: a circle ends here
	image, err := readModule(file)
	if err != nil {
		return fail(err, "reading the module %s", name)
	}
	hard, soft, err := c.tree.needs(name, image)
	if err != nil {
		return wire.Errorf(wire.Invalid, "reading the module %s: %w", name, err)
	}
	m := Module{Name: name, File: name + ".ko", Size: int64(len(image))}
	for _, n := range soft {
		if n = strings.ReplaceAll(n, "-", "_"); c.tree.files[n] != "" {
			hard = append(hard, n)
		}
	}
	for _, n := range hard {
		if err := c.add(n, name); err != nil {
			return err
		}
		if c.seen[n] && n != name && !slices.Contains(m.Deps, n) {
			m.Deps = append(m.Deps, n)
		}
	}
	c.out = append(c.out, m)
	return writeSynced(filepath.Join(c.dst, m.File), bytes.NewReader(image))
}

func readModule(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := decompress(f)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "%w", err)
	}
	defer z.Close()
	b, err := io.ReadAll(bounded(z, maxModule))
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "decompressing: %w", err)
	}
	return b, nil
}
