package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/bandsox/bandsox"
)

// createFlags are the flags of every command that creates a sandbox.
type createFlags struct {
	name     string
	vcpu     int
	mem      sizeMiB
	disk     sizeMiB
	env      []string
	envFiles []string
	pull     string
	metadata []string
	labels   []string
	ttl      duration
	idle     duration
	idleDo   string
	boot     bool // with no template
	rebuild  bool
}

func (c *createFlags) add(f *pflag.FlagSet, memDefault int) {
	c.mem, c.disk = sizeMiB(memDefault), bandsox.DefaultDiskSizeMiB
	f.StringVar(&c.name, "name", "", "name of the sandbox, unique among those that are there")
	f.IntVar(&c.vcpu, "vcpu", bandsox.DefaultVCPU, "virtual processors")
	f.IntVar(&c.vcpu, "cpus", bandsox.DefaultVCPU, "as --vcpu, for docker's users")
	_ = f.MarkHidden("cpus")
	f.VarP(&c.mem, "mem", "m", "memory in MiB, or with a unit: 512m, 2g")
	f.Var(&c.disk, "disk-size", "disk in MiB, or with a unit: the most it can hold, not what it takes")
	f.StringArrayVarP(&c.env, "env", "e", nil, "KEY=VALUE, or KEY to pass this one on; repeatable")
	f.StringArrayVar(&c.envFiles, "env-file", nil, "file of KEY=VALUE lines; repeatable")
	f.StringArrayVar(&c.metadata, "metadata", nil, "KEY=VALUE, or a JSON object, to remember with the sandbox; repeatable")
	f.StringArrayVar(&c.labels, "label", nil, "KEY=VALUE to list by; repeatable")
	f.Var(&c.ttl, "ttl", "delete it after this long, whatever it does: 10m, 24h")
	f.Var(&c.idle, "idle-timeout", "do --idle-action when nothing used it for this long: 5m, 1h")
	f.StringVar(&c.idleDo, "idle-action", "", "pause (its next use resumes it), stop or delete (default pause)")
	f.StringVar(&c.pull, "pull", "missing", "look for the image outside the local store: missing, always or never")
	f.BoolVar(&c.boot, "no-template", false, "boot it, rather than go on from what was saved when another had just booted")
	f.BoolVar(&c.rebuild, "force-rebuild", false, "boot it, and make the template of its kind anew")
}

func (c *createFlags) options(image string) (bandsox.CreateOptions, error) {
	if c.vcpu < 1 {
		return bandsox.CreateOptions{}, usageError("--vcpu %d: must be at least 1", c.vcpu)
	}
	if c.mem < 1 || c.disk < 1 {
		return bandsox.CreateOptions{}, usageError("--mem and --disk-size must be at least 1 MiB")
	}
	env, err := parseEnv(c.envFiles, c.env)
	if err != nil {
		return bandsox.CreateOptions{}, err
	}
	metadata, err := parseMetadata(c.metadata)
	if err != nil {
		return bandsox.CreateOptions{}, err
	}
	labels := map[string]string{}
	for _, l := range c.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return bandsox.CreateOptions{}, usageError("--label %q: must be KEY=VALUE", l)
		}
		labels[k] = v
	}
	return bandsox.CreateOptions{
		Image: image, Name: c.name, VCPU: c.vcpu, MemMiB: int(c.mem), DiskSizeMiB: int(c.disk),
		Env: env, Metadata: metadata, Labels: labels, Pull: bandsox.PullPolicy(c.pull),
		TTL: time.Duration(c.ttl), IdleTimeout: time.Duration(c.idle), IdleAction: bandsox.IdleAction(c.idleDo), NoTemplate: c.boot, RebuildTemplate: c.rebuild,
	}, nil
}

// parseMetadata reads KEY=VALUE, whose value is text, and JSON objects; of a
// key given twice the last one is taken. KEY- is a key to take away: nil.
func parseMetadata(list []string) (map[string]any, error) {
	metadata := map[string]any{}
	for _, arg := range list {
		if strings.HasPrefix(arg, "{") {
			var more map[string]any
			if err := json.Unmarshal([]byte(arg), &more); err != nil {
				return nil, usageError("--metadata: not a JSON object: %w", err)
			}
			maps.Copy(metadata, more)
			continue
		}
		k, v, err := pair("--metadata", arg)
		if err != nil {
			return nil, err
		}
		if metadata[k] = nil; v != nil {
			metadata[k] = *v
		}
	}
	return metadata, nil
}

// pair is KEY=VALUE, or KEY- for a key to take away: no value.
func pair(flag, arg string) (string, *string, error) {
	if k, v, ok := strings.Cut(arg, "="); ok && k != "" {
		return k, &v, nil
	}
	if k, ok := strings.CutSuffix(arg, "-"); ok && k != "" {
		return k, nil, nil
	}
	return "", nil, usageError("%s %q: must be KEY=VALUE", flag, arg)
}

// sizeMiB is a size flag: MiB, or a number with k, m, g or t behind it.
type sizeMiB int

func (s *sizeMiB) String() string { return strconv.Itoa(int(*s)) }
func (s *sizeMiB) Type() string   { return "size" }

func (s *sizeMiB) Set(text string) error {
	digits := strings.TrimRight(strings.ToLower(text), "ib")
	unit := int64(1 << 20)
	if n := len(digits); n > 0 {
		shift := map[byte]int64{'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30, 't': 1 << 40}
		if u, ok := shift[digits[n-1]]; ok {
			unit, digits = u, digits[:n-1]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a size: give MiB, or a number with k, m, g or t", text)
	}
	*s = sizeMiB(n * unit >> 20)
	return nil
}

// duration is a time flag: as Go writes it, or plain seconds.
type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }
func (d *duration) Type() string   { return "duration" }

func (d *duration) Set(text string) error {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		text = fmt.Sprintf("%fs", n)
	}
	t, err := time.ParseDuration(text)
	if err != nil || t < 0 {
		return fmt.Errorf("%q is not a time: give seconds, or 300ms, 30s, 5m", text)
	}
	*d = duration(t)
	return nil
}

// parseEnv reads files first and flags over them, as docker does.
func parseEnv(files, flags []string) (map[string]string, error) {
	env := map[string]string{}
	for _, path := range files {
		if err := parseEnvFile(env, path); err != nil {
			return nil, err
		}
	}
	for _, e := range flags {
		if err := setEnv(env, e); err != nil {
			return nil, err
		}
	}
	return env, nil
}

func parseEnvFile(env map[string]string, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return usageError("--env-file: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := setEnv(env, line); err != nil {
			return usageError("--env-file %s line %d: %w", path, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return usageError("--env-file %s: %w", path, err)
	}
	return nil
}

func setEnv(env map[string]string, e string) error {
	k, v, ok := strings.Cut(e, "=")
	if k == "" || strings.ContainsAny(k, " \t") {
		return usageError("environment variable %q: must be KEY=VALUE or KEY", e)
	}
	if !ok {
		if v, ok = os.LookupEnv(k); !ok {
			return nil // docker passes on only what is there
		}
	}
	env[k] = v
	return nil
}

func envPairs(env map[string]string) []string {
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}

func parseMirrors(list []string) (map[string][]string, error) {
	mirrors := map[string][]string{}
	for _, m := range list {
		host, mirror, ok := strings.Cut(m, "=")
		if !ok || host == "" || mirror == "" {
			return nil, usageError("--registry-mirror %q: must be HOST=MIRROR", m)
		}
		mirrors[host] = append(mirrors[host], mirror)
	}
	return mirrors, nil
}
