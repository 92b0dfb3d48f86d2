// Package bandsox gives a program its own computer in a blink: a microVM made
// from a container image, with its own kernel, in which to run code that isn't
// trusted.
//
//	m, err := bandsox.Open(ctx, bandsox.Config{})
//	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: "python:3-alpine"})
//	defer sb.Delete(ctx)
//	out, err := sb.Command("python3", "-c", "print(6*7)").Output(ctx)
//
// A [Manager] owns a state directory. A [Sandbox] is one microVM in it. A [Cmd]
// is a program to run in a sandbox, shaped like os/exec's. Every error is, or
// wraps, an [*Error].
package bandsox

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"sync"

	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/vm/qemu"
)

// Config is how a manager is set up. The zero value works.
type Config struct {
	// Storage is the state directory. Default: BANDSOX_STORAGE, else
	// /var/lib/bandsox for root, $XDG_DATA_HOME/bandsox for others.
	Storage string
	// Driver is "qemu"; "" picks the best that runs here.
	Driver string
	// Accel is "kvm" or "tcg"; "" takes KVM where it proves to work.
	Accel string
	// Agent is the path of the guest agent's program. Default: the one built
	// into this program, else bandsox-agent beside it or on PATH.
	Agent string
	// Images says where images come from.
	Images ImageSources
	// Progress is told how long work goes on: what is being done, how much of
	// how much (0: unknown). It may be called from several goroutines.
	Progress func(what string, done, total int64)
	// KeepLeftovers leaves to Cleanup what Open would undo by itself: the
	// sandboxes and files of processes that were killed.
	KeepLeftovers bool
	// Log takes what happens in the background. Default: slog.Default().
	Log *slog.Logger
}

// ImageSources says where images come from and how far to trust them.
type ImageSources struct {
	Docker   string              // the docker daemon's socket; default DOCKER_HOST, else /var/run/docker.sock
	Mirrors  map[string][]string // registry host → mirrors to try first
	Insecure []string            // registry hosts to speak plain HTTP to, or TLS unverified
	CAFiles  []string            // more certificate authorities, PEM
	MaxBytes int64               // limit of an image's unpacked size; default 64 GiB
	Stdin    io.Reader           // what "-" stands for in oci-archive:- and docker-archive:-
}

// Manager owns a state directory and the sandboxes in it. Its methods may be
// called by many goroutines at once.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	store    *store.Store
	driver   vm.Driver
	artifact func(ctx context.Context) (artifacts, error) // kernel and initramfs

	mu   sync.Mutex
	live map[string]*Sandbox // those that this manager has in hand
	wg   sync.WaitGroup      // one for each goroutine that watches a machine
}

// Open opens a state directory, making it if needed. What a killed process
// left half done there is undone; machines that run go on.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	driver, err := pickDriver(cfg)
	if err != nil {
		return nil, fail("open", "", err)
	}
	m, err := open(ctx, cfg, driver)
	if err != nil {
		return nil, err
	}
	m.artifact = m.findArtifacts
	return m, nil
}

func open(ctx context.Context, cfg Config, driver vm.Driver) (*Manager, error) {
	if cfg.Storage == "" {
		dir, err := store.DefaultDir()
		if err != nil {
			return nil, fail("open", "", err)
		}
		cfg.Storage = dir
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	st, err := store.Open(ctx, cfg.Storage)
	if err != nil {
		return nil, fail("open", "", err)
	}
	st.Derive(stateEvents)
	m := &Manager{cfg: cfg, log: cfg.Log, store: st, driver: driver, live: map[string]*Sandbox{}}
	if cfg.KeepLeftovers {
		return m, nil
	}
	if err := m.undo(ctx); err != nil {
		m.log.Warn("undoing what a killed process left", "err", err)
	}
	return m, nil
}

func pickDriver(cfg Config) (vm.Driver, error) {
	switch cfg.Driver {
	case "", "qemu":
		return qemu.New(qemu.Options{Accel: cfg.Accel}), nil
	}
	return nil, invalid("open", "", "unknown driver %q: this build has qemu", cfg.Driver)
}

// Storage is the state directory.
func (m *Manager) Storage() string { return m.store.Dir() }

// Close gives the state directory up. Machines go on running; another manager
// finds them again.
func (m *Manager) Close() error {
	m.mu.Lock()
	live := m.live
	m.live = map[string]*Sandbox{}
	m.mu.Unlock()
	var errs []error
	for _, sb := range live {
		errs = append(errs, sb.release())
	}
	m.wg.Wait()
	return fail("close", "", errors.Join(append(errs, m.store.Close())...))
}

// ListOptions filters a list. The zero value takes all.
type ListOptions struct {
	Limit    int            // at most so many, the newest; 0: all
	Metadata map[string]any // only sandboxes whose metadata has these values
}

// List returns the sandboxes, the newest first.
func (m *Manager) List(ctx context.Context, o ListOptions) ([]Info, error) {
	rows, err := m.store.List(ctx)
	if err != nil {
		return nil, fail("list", "", err)
	}
	list := []Info{}
	for _, row := range rows {
		info, err := m.inspect(ctx, row)
		if err != nil {
			return nil, fail("list", row.ID, err)
		}
		if info.Status == stateDeleted || !matches(info.Metadata, o.Metadata) {
			continue
		}
		if list = append(list, info); len(list) == o.Limit {
			break
		}
	}
	return list, nil
}

// Get finds a sandbox by id or name.
func (m *Manager) Get(ctx context.Context, ref string) (*Sandbox, error) {
	row, err := m.store.Find(ctx, ref)
	if err != nil {
		return nil, fail("get", ref, err)
	}
	info, err := m.inspect(ctx, row)
	if err != nil {
		return nil, fail("get", ref, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sb := m.live[row.ID]; sb != nil {
		return sb, nil
	}
	sb := &Sandbox{m: m, id: row.ID, info: info, owner: row.Owner}
	m.live[row.ID] = sb
	return sb, nil
}

// artifacts are what every machine of one kernel and agent boots from.
type artifacts struct {
	kernel string // vmlinux
	initrd string
	digest string // of the kernel
}

// findArtifacts finds the installed kernel and makes the initramfs that goes
// with it and with this agent, once.
func (m *Manager) findArtifacts(ctx context.Context) (artifacts, error) {
	k, err := kernel.Open(m.store.Kernels())
	if err != nil {
		return artifacts{}, err
	}
	initrd, err := m.initramfs(ctx, k)
	return artifacts{kernel: k.Vmlinux, initrd: initrd, digest: k.Digest}, err
}

// Arch is the architecture of the machines: that of this program.
const Arch = runtime.GOARCH
