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
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/image"
	"github.com/bandsox/bandsox/internal/kernel"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
)

// Config is how a manager is set up. The zero value works.
type Config struct {
	// Storage is the state directory. Default: BANDSOX_STORAGE, else
	// /var/lib/bandsox for root, $XDG_DATA_HOME/bandsox for others.
	Storage string
	// Shared lets several processes have the state directory open at a time, all
	// of them Shared. A manager is its one owner otherwise: it keeps the records
	// in memory, acts when a sandbox's time is over, and is refused while
	// another has the directory.
	Shared bool
	// Driver is "firecracker" or "qemu"; "" picks the best that runs here.
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
	// MemoryOvercommit is how many times the memory that the host has to give
	// may be promised to sandboxes. Default: DefaultMemoryOvercommit.
	MemoryOvercommit float64
	// KeepLeftovers leaves to Cleanup what Open would undo by itself: the
	// sandboxes and files of processes that were killed.
	KeepLeftovers bool
	// NoTemplates boots every sandbox, and makes no templates.
	NoTemplates bool
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

	// DebianMirror is the URL of the Debian archive that bandsox/base is built from,
	// and after a space that of its security archive. Default:
	// BANDSOX_DEBIAN_MIRROR, else what the host's apt uses, where it is a Debian.
	DebianMirror string
}

// Manager owns a state directory and the sandboxes in it. Its methods may be
// called by many goroutines at once.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	store    *store.Store
	driver   vm.Driver
	artifact func(ctx context.Context) (artifacts, error) // kernel and initramfs
	builds   string                                       // where bandsox/base is built by an ordinary user
	patience patience                                     // with silent guests

	snapshotting sync.RWMutex // held while one is taken away; shared while one is restored
	naming       sync.Mutex   // held while a snapshot gets its name, or another
	templates    templates

	mu    sync.Mutex
	live  map[string]*Sandbox // every sandbox; of a Shared manager those that it has met
	names map[string]*Sandbox // what find found last; a hint
	wg    sync.WaitGroup      // one for each goroutine that watches a machine, and for the timekeeper's
	wake  chan struct{}       // tells the timekeeper that a time may have come nearer
	stop  chan struct{}       // closed to end the timekeeper

	version struct { // of the driver's program, as Ready saw it last; guarded by mu
		text string
		seen time.Time
	}

	loading bool // an owner reads what is there; nobody else has the manager yet
	closed  bool // guarded by mu
}

// Open opens a state directory, making it if needed. What a killed process
// left half done there is finished or undone; machines that run go on, and are
// taken in hand by an owner. It is a conflict, which names the other process,
// when one has the directory that this one can't share it with.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	if err := cfg.locate(); err != nil {
		return nil, fail("open", "", err)
	}
	driver, err := pickDriver(ctx, cfg)
	if err != nil {
		return nil, fail("open", "", err)
	}
	return open(ctx, cfg, driver)
}

// locate has the state directory named.
func (cfg *Config) locate() (err error) {
	cfg.Storage, err = stateDir(cfg.Storage)
	return err
}

// stateDir is the state directory named, or else the default.
func stateDir(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	return store.DefaultDir()
}

func open(ctx context.Context, cfg Config, driver vm.Driver) (*Manager, error) {
	if err := cfg.locate(); err != nil {
		return nil, fail("open", "", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	st, err := store.Open(ctx, cfg.Storage, cfg.Shared)
	if err != nil {
		return nil, fail("open", "", err)
	}
	st.Derive(stateEvents)
	m := &Manager{cfg: cfg, log: cfg.Log, store: st, driver: driver, patience: usualPatience, live: map[string]*Sandbox{}, names: map[string]*Sandbox{},
		wake: make(chan struct{}, 1), stop: make(chan struct{})}
	m.artifact, m.builds = m.findArtifacts, image.BuildsDir
	if _, ok := driver.(vm.Kernelless); ok {
		m.cfg.NoTemplates = true // a boot costs nothing
		m.artifact = func(context.Context) (artifacts, error) {
			return artifacts{kernel: "none", initrd: "none", digest: "none"}, nil
		}
	}
	if err := m.load(ctx); err != nil {
		return nil, fail("open", "", errors.Join(err, st.Close()))
	}
	m.wg.Go(func() { m.keepTime(m.stop) })
	return m, nil
}

// Storage is the state directory.
func (m *Manager) Storage() string { return m.store.Dir() }

// Driver is the name of what runs the machines.
func (m *Manager) Driver() string { return m.driver.Name() }

// Close gives the state directory up. Machines go on running; another manager
// finds them again. It waits for what the timekeeper has begun.
func (m *Manager) Close() error {
	m.mu.Lock()
	live := m.live
	m.live, m.names = map[string]*Sandbox{}, map[string]*Sandbox{}
	if !m.closed {
		close(m.stop)
	}
	m.closed = true
	m.mu.Unlock()
	m.templates.wait()
	var errs []error
	for _, sb := range live {
		errs = append(errs, sb.endView(), sb.release())
	}
	m.wg.Wait()
	return fail("close", "", errors.Join(append(errs, m.store.Close())...))
}

// minPrefix is how much of an id must be given to find a sandbox by it.
const minPrefix = 4

// Get finds a sandbox by id, by name, or by the beginning of its id: at least
// four characters, and a conflict if other ids begin so too.
func (m *Manager) Get(ctx context.Context, ref string) (*Sandbox, error) {
	sb, err := m.get(ctx, ref)
	return sb, fail("get", ref, err)
}

func (m *Manager) get(ctx context.Context, ref string) (*Sandbox, error) {
	if !m.cfg.Shared {
		if sb := m.find(ref); sb != nil {
			return sb, nil
		}
		return m.begun(ref)
	}
	row, err := m.store.Find(ctx, ref)
	if classify(err) == CodeNotFound && len(ref) >= minPrefix {
		row, err = m.store.Begun(ctx, ref)
	}
	if err != nil {
		return nil, err
	}
	info, err := decode(row)
	if err != nil {
		return nil, err
	}
	if info.Status == StateDeleted {
		return nil, store.NotFound(ref)
	}
	if info, err = m.trueState(ctx, info); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sb := m.live[row.ID]; sb != nil {
		return sb, nil
	}
	sb := newSandbox(m, info, row.Owner)
	m.live[row.ID] = sb
	return sb, nil
}

// find looks in memory for the sandbox with this id or name. Where a name led to
// is remembered: there may be a thousand others, and a server asks for each
// request.
func (m *Manager) find(ref string) *Sandbox {
	m.mu.Lock()
	byID, byName := m.live[ref], m.names[ref]
	m.mu.Unlock()
	for _, sb := range []*Sandbox{byID, byName} {
		if sb != nil && sb.answersTo(ref) {
			return sb
		}
	}
	for _, sb := range m.known() {
		if sb.answersTo(ref) {
			m.mu.Lock()
			if m.live[sb.id] == sb {
				m.names[ref] = sb
			}
			m.mu.Unlock()
			return sb
		}
	}
	return nil
}

// begun is the one sandbox whose id begins with ref.
func (m *Manager) begun(ref string) (*Sandbox, error) {
	var found *Sandbox
	for _, sb := range m.known() {
		switch {
		case len(ref) < minPrefix || !strings.HasPrefix(sb.id, ref) || sb.known().Status == StateDeleted:
		case found != nil:
			return nil, store.Ambiguous(ref)
		default:
			found = sb
		}
	}
	if found == nil {
		return nil, store.NotFound(ref)
	}
	return found, nil
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
