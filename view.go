package bandsox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/disk"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

const (
	viewMemMiB = 128
	// viewIdle is how long a view is kept for the next look.
	viewIdle = 20 * time.Second
)

// fileView is a machine through which a stopped sandbox's files are looked at. It
// has the sandbox's disk read-only, and what its guest writes goes to the
// guest's memory; a disk that was cut off, whose journal must be replayed first,
// is copied instead. It lives in the scratch directory: when its manager dies,
// whoever sweeps that kills it.
type fileView struct {
	machine vm.Machine
	client  *agent.Client
	lock    *store.FileLock // nobody else starts the sandbox meanwhile
	dir     string
	stop    chan struct{}
	used    time.Time // guarded by the sandbox's op
}

// reading returns an agent to look at files by: the sandbox's own if it runs, or
// that of a view if it is stopped.
func (sb *Sandbox) reading(ctx context.Context) (*agent.Client, error) {
	return sb.agentFor(ctx, opRead)
}

// viewed returns the view's agent; the caller holds sb.op.
func (sb *Sandbox) viewed(ctx context.Context) (*agent.Client, error) {
	if v := sb.view; v != nil {
		select {
		case <-v.client.Done():
			sb.closeView()
		default:
			v.used = time.Now()
			return v.client, nil
		}
	}
	v, err := sb.openView(ctx)
	if err != nil {
		return nil, wire.Errorf(classify(err), "looking at the files of sandbox %s, which is %s: %w", sb.id, sb.state(), err)
	}
	v.used = time.Now()
	sb.view = v
	go sb.watchView(v)
	return v.client, nil
}

func (sb *Sandbox) openView(ctx context.Context) (_ *fileView, err error) {
	v := &fileView{stop: make(chan struct{})}
	if v.lock, err = sb.tryLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if v.dir, err = os.MkdirTemp(sb.m.store.Scratch(), "view-*"); err != nil {
		return nil, err
	}
	drive := vm.Drive{Path: sb.m.store.Disk(sb.id), ReadOnly: true}
	cutOff, err := disk.NeedsRecovery(drive.Path)
	if err != nil {
		return nil, err
	}
	if cutOff {
		drive = vm.Drive{Path: filepath.Join(v.dir, "disk.ext4")}
		if err := disk.Copy(ctx, drive.Path, sb.m.store.Disk(sb.id)); err != nil {
			return nil, err
		}
	}
	art, err := sb.m.artifact(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(v.dir, "machine")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	v.machine, err = sb.m.driver.Boot(ctx, vm.Spec{
		ID: sb.id, Dir: dir, VCPU: 1, MemMiB: viewMemMiB, Kernel: art.kernel, Initrd: art.initrd,
		Drives: []vm.Drive{{Path: sb.m.store.Base(sb.known().Digest), ReadOnly: true}, drive},
	})
	if err != nil {
		return nil, err
	}
	bootCtx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if v.client, err = agent.Connect(bootCtx, v.machine.Dial); err != nil {
		return nil, sb.bootError(bootCtx, v.machine, err)
	}
	return v, nil
}

// watchView closes a view that nobody looks through any more.
func (sb *Sandbox) watchView(v *fileView) {
	tick := time.NewTicker(viewIdle / 4)
	defer tick.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-v.client.Done():
		case <-tick.C:
		}
		select {
		case sb.op <- struct{}{}:
			if sb.view == v && v.idle() {
				sb.closeView()
			}
			sb.unlockOp()
		case <-v.stop:
			return
		}
	}
}

// idle says that nobody has looked for long, or can any more.
func (v *fileView) idle() bool {
	select {
	case <-v.client.Done():
		return true
	default:
	}
	busy, since := v.client.Busy()
	return !busy && time.Since(since) >= viewIdle && time.Since(v.used) >= viewIdle
}

// closeView ends the view, if there is one; the caller holds sb.op.
func (sb *Sandbox) closeView() {
	v := sb.view
	if v == nil {
		return
	}
	sb.view = nil
	close(v.stop)
	if err := v.close(); err != nil {
		sb.m.log.Error("closing the view of a stopped sandbox", "sandbox", sb.id, "err", err)
	}
}

// endView is closeView for a manager that closes.
func (sb *Sandbox) endView() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := sb.lockOp(ctx); err != nil {
		return err
	}
	defer sb.unlockOp()
	sb.closeView()
	return nil
}

// close undoes what openView did, as far as that went.
func (v *fileView) close() error {
	var errs []error
	if v.client != nil {
		errs = append(errs, v.client.Close())
	}
	if v.machine != nil {
		errs = append(errs, v.machine.Kill())
	}
	if v.dir != "" {
		errs = append(errs, os.RemoveAll(v.dir))
	}
	return errors.Join(append(errs, v.lock.Unlock())...)
}
