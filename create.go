package bandsox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// CreateOptions says what to create. Only Image is needed.
type CreateOptions struct {
	Image       string            // a name, or docker-daemon:, docker-archive:, oci-archive:, oci:, dir:
	Name        string            // unique among sandboxes; may be empty
	VCPU        int               // default 1
	MemMiB      int               // default 128
	DiskSizeMiB int               // default 4096: the most it can hold, not what it takes
	Env         map[string]string // of every program in it, over the image's
	Metadata    map[string]any    // the caller's own
	Labels      map[string]string // the caller's own, to list by
	Pull        PullPolicy        // default PullMissing
	// NoTemplate boots it, and makes no template; RebuildTemplate boots it, and makes
	// its template anew.
	NoTemplate, RebuildTemplate bool
	// AutoRemove throws the sandbox away when its creator is gone: by the next
	// manager that opens the state directory.
	AutoRemove bool
	// Owner says who made it: the id of an API key, where a server makes it for one.
	Owner string
	// TTL is how long it lives: then it is deleted, whatever it does. 0: for good.
	TTL time.Duration
	// IdleTimeout is how long it may run unused: without a program started, a
	// file read or written, or a stream to one of its programs. Then IdleAction
	// is done. 0: for ever.
	IdleTimeout time.Duration
	IdleAction  IdleAction // default IdlePause
}

// The defaults and limits of a sandbox's shape.
const (
	DefaultVCPU        = 1
	DefaultMemMiB      = 128
	DefaultDiskSizeMiB = 4096
	minMemMiB          = 96 // less does not boot
	minDiskSizeMiB     = 64
	maxVCPU            = 32
	maxMemMiB          = 1 << 20
	maxDiskSizeMiB     = disk.MaxSizeMiB
)

// bootTimeout is when a guest that has said nothing is given up. On a busy host
// without KVM a boot takes some ten seconds.
const bootTimeout = 2 * time.Minute

func (o *CreateOptions) defaults() {
	if o.VCPU == 0 {
		o.VCPU = DefaultVCPU
	}
	if o.MemMiB == 0 {
		o.MemMiB = DefaultMemMiB
	}
	if o.DiskSizeMiB == 0 {
		o.DiskSizeMiB = DefaultDiskSizeMiB
	}
	if o.Pull == "" {
		o.Pull = PullMissing
	}
	if o.IdleTimeout != 0 && o.IdleAction == "" {
		o.IdleAction = IdlePause
	}
	if o.Metadata == nil {
		o.Metadata = map[string]any{}
	}
}

func (o *CreateOptions) check() error {
	within := func(what string, v, low, high int) error {
		if v < low || v > high {
			return wire.Errorf(CodeInvalid, "%s %d: must be from %d to %d", what, v, low, high)
		}
		return nil
	}
	for _, err := range []error{
		within("vcpu", o.VCPU, 1, maxVCPU),
		within("mem MiB", o.MemMiB, minMemMiB, maxMemMiB),
		within("disk size MiB", o.DiskSizeMiB, minDiskSizeMiB, maxDiskSizeMiB),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case o.Image == "":
		return wire.Errorf(CodeInvalid, "no image given")
	case checkName(o.Name) != nil:
		return checkName(o.Name)
	case o.Pull != PullMissing && o.Pull != PullAlways && o.Pull != PullNever:
		return wire.Errorf(CodeInvalid, "pull policy %q: must be missing, always or never", o.Pull)
	}
	for _, err := range []error{
		checkEnv(o.Env), checkLabels(o.Labels), checkMetadata(o.Metadata), checkTTL(o.TTL), checkIdle(o.IdleTimeout, o.IdleAction),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Create makes a sandbox from an image and returns when programs can be run in
// it. On error nothing of it is left. The first of its kind boots; those that
// come later go on from a template, a snapshot of one that had just booted.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (_ *Sandbox, err error) {
	o.defaults()
	defer func() { err = fail("create", o.Image, err) }()
	if err := o.check(); err != nil {
		return nil, err
	}
	return m.make(ctx, o, func(ctx context.Context, sb *Sandbox, lock *store.FileLock, times *phases, undo *stack) error {
		img, err := m.claim(ctx, sb, o.Pull)
		if err != nil {
			return err
		}
		times.done("image")
		step("image")
		key := m.templateKey(ctx, sb, o)
		if key != "" && !o.RebuildTemplate {
			switch done, err := sb.fromTemplate(ctx, key, lock, times, undo); {
			case err != nil:
				return err
			case done:
				return nil
			}
		}
		if err := disk.Create(ctx, m.store.Disk(sb.id), o.DiskSizeMiB); err != nil {
			return err
		}
		times.done("disk")
		step("disk")
		if err := sb.boot(ctx, lock, img.Digest, times, undo); err != nil {
			return err
		}
		if key != "" {
			m.wantTemplate(key, sb.known(), o.RebuildTemplate)
		}
		return nil
	})
}

// make makes a sandbox: its record, what fill makes of that, and what there is to
// undo of both if it fails. The lock that fill gets is the sandbox's.
func (m *Manager) make(ctx context.Context, o CreateOptions, fill func(context.Context, *Sandbox, *store.FileLock, *phases, *stack) error) (_ *Sandbox, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := m.admit(ctx, "", o.VCPU, o.MemMiB); err != nil {
		return nil, err
	}
	var undo stack
	times := newPhases()

	sb := m.newRecord(o)
	defer func() {
		if err != nil {
			if len(undo.do) > 0 {
				sb.note(EventFailed, map[string]string{"reason": err.Error()})
			}
			undo.run(m)
		}
	}()
	sb.op <- struct{}{} // nobody else knows of it yet
	defer sb.unlockOp()
	row, err := encode(sb.info, sb.owner)
	if err != nil {
		return nil, err
	}
	if err := m.store.Insert(ctx, row); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.live[sb.id] = sb
	m.mu.Unlock()
	undo.push("record", func(ctx context.Context) error { return m.remove(ctx, sb.id) })
	step("record")
	if err := os.MkdirAll(m.store.Machine(sb.id), 0o700); err != nil {
		return nil, err
	}
	lock, err := sb.tryLock()
	if err != nil {
		return nil, err
	}
	undo.push("lock", func(context.Context) error { return lock.Unlock() })
	if err := fill(ctx, sb, lock, times, &undo); err != nil {
		return nil, err
	}
	if err := sb.save(ctx, func(i *Info) { i.Phases = times.list }); err != nil {
		return nil, err
	}
	return sb, nil
}

// newRecord is a sandbox that has an id and nothing else yet.
func (m *Manager) newRecord(o CreateOptions) *Sandbox {
	now := time.Now()
	info := Info{ID: store.NewID(), Name: o.Name, Image: o.Image, VCPU: o.VCPU, MemMiB: o.MemMiB, DiskSizeMiB: o.DiskSizeMiB,
		CreatedAt: epochMicro(now.UnixMicro()), Status: StateCreating, Env: o.Env, Metadata: o.Metadata, Labels: o.Labels,
		AutoRemove: o.AutoRemove, Owner: o.Owner, IdleTimeout: o.IdleTimeout, IdleAction: o.IdleAction}
	if o.TTL > 0 {
		info.ExpiresAt = now.Add(o.TTL).UTC()
	}
	return newSandbox(m, info, m.store.Self())
}

// claim finds or builds the base of the sandbox's image and writes into the
// record that it is in use, all under the base's lock: a prune can't come between.
func (m *Manager) claim(ctx context.Context, sb *Sandbox, pull PullPolicy) (Image, error) {
	for {
		img, err := m.base(ctx, sb.info.Image, pull)
		if err != nil {
			return Image{}, err
		}
		lock, err := m.store.LockBase(ctx, img.Digest)
		if err != nil {
			return Image{}, err
		}
		if _, err = os.Stat(m.store.BaseInfo(img.Digest)); err == nil {
			err = sb.save(ctx, func(i *Info) { i.Digest, i.Config = img.Digest, img.Config })
			lock.Unlock()
			return img, err
		}
		lock.Unlock()
	}
}

// boot starts the sandbox's machine and makes it ready. Create and Start share
// it. The lock is the sandbox's; it is held on to from then on.
func (sb *Sandbox) boot(ctx context.Context, lock *store.FileLock, digest string, times *phases, undo *stack) error {
	m := sb.m
	art, err := m.artifact(ctx)
	if err != nil {
		return err
	}
	// It may have been cut short when it grew.
	if err := disk.Grow(m.store.Disk(sb.id), sb.info.DiskSizeMiB); err != nil {
		return err
	}
	times.done("kernel")

	spec := sb.spec(digest)
	spec.Kernel, spec.Initrd = art.kernel, art.initrd
	machine, err := m.driver.Boot(ctx, spec)
	if err != nil {
		return err
	}
	return sb.ready(ctx, machine, lock, sb.identity(), times, undo, func(i *Info) { i.Kernel, i.Template = art.digest, "" })
}

// spec is the sandbox's machine, but for what it boots from.
func (sb *Sandbox) spec(digest string) vm.Spec {
	st := sb.m.store
	return sb.m.spec(sb.id, st.Machine(sb.id), digest, st.Disk(sb.id), sb.info.VCPU, sb.info.MemMiB)
}

// spec is a machine over the base of an image, with a disk of its own.
func (m *Manager) spec(id, dir, digest, own string, vcpu, memMiB int) vm.Spec {
	return vm.Spec{ID: id, Dir: dir, VCPU: vcpu, MemMiB: memMiB,
		Drives: []vm.Drive{{Path: m.store.Base(digest), ReadOnly: true}, {Path: own}}}
}

// ready waits until the agent of a machine that has just started answers, makes
// its guest this sandbox and takes it in hand: the same after a boot and after a
// restore. Started is what the record is told of how it started.
func (sb *Sandbox) ready(ctx context.Context, machine vm.Machine, lock *store.FileLock, who wire.Identity, times *phases, undo *stack, started func(*Info)) error {
	undo.push("machine", func(context.Context) error { return machine.Kill() })
	h := machine.Handle()
	if err := sb.save(ctx, func(i *Info) {
		i.Machine, i.PID = &h, h.PID
		started(i)
	}); err != nil {
		return err
	}
	times.done("machine")
	step("machine")

	bootCtx, cancel := context.WithTimeoutCause(ctx, bootTimeout, wire.Errorf(CodeTimeout, "the guest said nothing for %v", bootTimeout))
	defer cancel()
	client, err := agent.Connect(bootCtx, machine.Dial)
	if err != nil {
		return sb.bootError(bootCtx, machine, err)
	}
	undo.push("agent", func(context.Context) error { return client.Close() })
	times.done("boot")
	step("boot")

	if err := client.Identity(ctx, who); err != nil {
		return err
	}
	times.done("identity")
	sb.mu.Lock()
	sb.used = time.Now()
	sb.mu.Unlock()
	if err := sb.save(ctx, func(i *Info) {
		i.Status, i.Reason, i.AgentReady, i.Doing = StateRunning, "", true, ""
		i.usedNow()
	}); err != nil {
		return err
	}
	step("running")
	sb.hold(machine, client, lock, false)
	return nil
}

// bootError says why a guest never answered, with the last of its console.
func (sb *Sandbox) bootError(ctx context.Context, machine vm.Machine, err error) error {
	select {
	case <-machine.Done():
		if merr := machine.Err(); merr != nil {
			err = merr
		} else {
			err = wire.Errorf(CodeUnavailable, "the guest ended before it was ready: %w", err)
		}
	default:
		if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
			err = cause
		}
	}
	hint := ""
	if e := (*wire.Error)(nil); errors.As(err, &e) {
		hint = e.Hint
	}
	if hint == "" && strings.Contains(err.Error(), "/dev/vd") {
		hint = "the kernel may lack virtio drivers, or the modules it came with: bandsox init --force"
	}
	if tail := consoleTail(machine, 600); tail != "" {
		err = wire.Errorf(classify(err), "%w; its console ends with:\n%s", err, tail)
	}
	if hint != "" {
		err = wire.Errorf(classify(err), "%w", err).WithHint("%s", hint)
	}
	return err
}

// identity is who the guest shall be: the same after a boot, after a restore and
// under another name.
func (sb *Sandbox) identity() wire.Identity {
	name := sb.known().Name
	if name == "" {
		name = sb.id[:12]
	}
	host := strings.ReplaceAll(name, "_", "-")
	sum := sha256.Sum256([]byte("machine-id " + sb.id))
	return wire.Identity{
		Hostname:  host,
		MachineID: hex.EncodeToString(sum[:16]),
		Hosts:     map[string]string{host: "127.0.1.1"},
	}
}

func envList(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// stack is what must be undone when a later step fails, the last first.
type stack struct {
	what []string
	do   []func(context.Context) error
}

func (s *stack) push(what string, do func(context.Context) error) {
	s.what, s.do = append(s.what, what), append(s.do, do)
}

// take adds what another has to undo.
func (s *stack) take(o stack) {
	s.what, s.do = append(s.what, o.what...), append(s.do, o.do...)
}

// run undoes everything. It has its own time: the caller's context may be what ended.
func (s *stack) run(m *Manager) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i := len(s.do) - 1; i >= 0; i-- {
		if err := s.do[i](ctx); err != nil {
			m.log.Error("undoing a failed start", "what", s.what[i], "err", err)
		}
	}
}

// step is where tests kill the process.
var step = func(name string) {}
