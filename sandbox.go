package bandsox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/bandsox/bandsox/internal/agent"
	"github.com/bandsox/bandsox/internal/store"
	"github.com/bandsox/bandsox/internal/vm"
	"github.com/bandsox/bandsox/internal/wire"
)

// stateDeleted is a sandbox that is being removed: what a kill -9 leaves of
// one is finished by the next manager. Nobody else sees it.
const stateDeleted State = "deleted"

// Sandbox is one microVM. Its methods may be called by many goroutines at once.
type Sandbox struct {
	m  *Manager
	id string

	op sync.Mutex // held by whatever changes the state: start, stop, delete…

	mu      sync.Mutex // guards what follows
	info    Info
	owner   store.Owner
	machine vm.Machine
	client  *agent.Client
	lock    *store.FileLock // this process talks to the agent
	away    chan struct{}   // closed when the machine is let go of
	halted  error           // why the machine stopped by itself and waits
}

// ID is the sandbox's id.
func (sb *Sandbox) ID() string { return sb.id }

// Info returns what is known of the sandbox now.
func (sb *Sandbox) Info(ctx context.Context) (Info, error) {
	row, err := sb.m.store.Find(ctx, sb.id)
	if err != nil {
		return Info{}, fail("info", sb.id, err)
	}
	info, err := sb.m.inspect(ctx, row)
	return info, fail("info", sb.id, err)
}

// inspect is a row's Info, with what the row can't know put right: a machine
// that died while nobody watched.
func (m *Manager) inspect(ctx context.Context, row store.Sandbox) (Info, error) {
	info, err := decode(row)
	if err != nil {
		return info, err
	}
	if info.Status != StateRunning && info.Status != StatePaused {
		return info, nil
	}
	m.mu.Lock()
	sb := m.live[row.ID]
	m.mu.Unlock()
	if sb != nil && sb.held() {
		return info, nil // its watcher tells
	}
	machine, err := m.adopt(ctx, info)
	if err == nil {
		return info, machine.Release()
	}
	if classify(err) == CodeNotFound {
		info.Status, info.Reason, info.PID, info.AgentReady = StateFailed, "its machine is gone", 0, false
		err = nil
	}
	return info, err
}

func (m *Manager) adopt(ctx context.Context, info Info) (vm.Machine, error) {
	if info.Machine == nil {
		return nil, wire.Errorf(CodeNotFound, "sandbox %s has no machine", info.ID)
	}
	return m.driver.Adopt(ctx, *info.Machine)
}

func decode(row store.Sandbox) (Info, error) {
	var info Info
	if err := json.Unmarshal(row.Record, &info); err != nil {
		return info, wire.Errorf(CodeInternal, "reading the record of sandbox %s: %w", row.ID, err)
	}
	info.ID, info.Name, info.Status = row.ID, row.Name, State(row.State)
	return info, nil
}

func (sb *Sandbox) row() (store.Sandbox, error) {
	b, err := json.Marshal(sb.info)
	return store.Sandbox{ID: sb.id, Name: sb.info.Name, State: string(sb.info.Status), Owner: sb.owner,
		Created: sb.info.CreatedAt.Time, Record: b}, err
}

// save changes the sandbox's info and writes it down.
func (sb *Sandbox) save(ctx context.Context, change func(*Info)) error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	change(&sb.info)
	row, err := sb.row()
	if err != nil {
		return err
	}
	return sb.m.store.Update(ctx, row)
}

// brokeDown says why the agent of machine fell silent, where that is known.
func (sb *Sandbox) brokeDown(machine vm.Machine, err error) error {
	if why := sb.haltedWhy(); why != nil {
		return why
	}
	if machine == nil {
		return err
	}
	// The end of a process is known a moment after that of its sockets.
	select {
	case <-machine.Done():
	case <-time.After(500 * time.Millisecond):
		return err
	}
	why := "the guest powered off"
	if merr := machine.Err(); merr != nil {
		why = merr.Error()
	}
	return wire.Errorf(CodeUnavailable, "the sandbox ended before the program did: %s", why).WithHint("bandsox logs %s", sb.id)
}

// current is the machine in hand, or nil.
func (sb *Sandbox) current() vm.Machine {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.machine
}

// haltedWhy is why the machine waits, or nil.
func (sb *Sandbox) haltedWhy() error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.halted
}

func (sb *Sandbox) held() bool { return sb.current() != nil }

func (sb *Sandbox) state() State {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.info.Status
}

// reload reads the record again, unless this process has the machine in hand
// and so writes it itself.
func (sb *Sandbox) reload(ctx context.Context) error {
	if sb.held() {
		return nil
	}
	row, err := sb.m.store.Find(ctx, sb.id)
	if err != nil {
		return err
	}
	info, err := sb.m.inspect(ctx, row)
	if err != nil {
		return err
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.info, sb.owner = info, row.Owner
	return nil
}

// running returns the machine's agent, connecting to it if need be.
func (sb *Sandbox) running(ctx context.Context) (*agent.Client, error) {
	sb.op.Lock()
	defer sb.op.Unlock()
	return sb.connect(ctx)
}

// connect is running for those that hold sb.op.
func (sb *Sandbox) connect(ctx context.Context) (*agent.Client, error) {
	machine, err := sb.inHand(ctx)
	if err != nil {
		return nil, err
	}
	sb.mu.Lock()
	state, client := sb.info.Status, sb.client
	sb.mu.Unlock()
	if err := sb.haltedWhy(); err != nil {
		return nil, err
	}
	if state != StateRunning {
		return nil, sb.refuse(state)
	}
	if client != nil {
		select {
		case <-client.Done():
		default:
			return client, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err = agent.Connect(ctx, machine.Dial)
	if err != nil {
		return nil, wire.Errorf(CodeUnavailable, "the agent of sandbox %s does not answer: %w", sb.id, err)
	}
	sb.mu.Lock()
	sb.client = client
	sb.mu.Unlock()
	return client, nil
}

// inHand attaches to the machine and returns it.
func (sb *Sandbox) inHand(ctx context.Context) (vm.Machine, error) {
	if err := sb.attach(ctx); err != nil {
		return nil, err
	}
	if machine := sb.current(); machine != nil {
		return machine, nil
	}
	return nil, wire.Errorf(CodeUnavailable, "the machine of sandbox %s has just ended", sb.id)
}

// attach takes the machine in hand: this process alone talks to it then.
func (sb *Sandbox) attach(ctx context.Context) error {
	if sb.held() {
		return nil
	}
	if err := sb.reload(ctx); err != nil {
		return err
	}
	sb.mu.Lock()
	info := sb.info
	sb.mu.Unlock()
	if info.Status != StateRunning && info.Status != StatePaused {
		return sb.refuse(info.Status)
	}
	lock, err := store.TryLock(sb.m.store.SandboxLock(sb.id))
	if errors.Is(err, store.ErrLocked) {
		return wire.Errorf(CodeConflict, "sandbox %s is in use: %w", sb.id, err)
	} else if err != nil {
		return err
	}
	machine, err := sb.m.adopt(ctx, info)
	if err != nil {
		lock.Unlock()
		return err
	}
	sb.hold(machine, nil, lock)
	return nil
}

func (sb *Sandbox) refuse(state State) error {
	e := wire.Errorf(CodeConflict, "sandbox %s is %s", sb.id, state)
	switch state {
	case StateStopped, StateFailed:
		e = e.WithHint("bandsox start %s", sb.id)
	case StatePaused:
		e = e.WithHint("bandsox resume %s", sb.id)
	}
	return e
}

// hold takes a machine in hand and watches it, to write down how it ends.
func (sb *Sandbox) hold(machine vm.Machine, client *agent.Client, lock *store.FileLock) {
	away := make(chan struct{})
	sb.mu.Lock()
	sb.machine, sb.client, sb.lock, sb.away = machine, client, lock, away
	sb.mu.Unlock()
	sb.m.wg.Go(func() {
		for {
			select {
			case <-away: // released, or ended by a method that writes it down itself
				return
			case why := <-machine.Halted():
				sb.machineHalted(machine, why)
			case <-machine.Done():
				sb.machineDone(machine)
				return
			}
		}
	})
}

// machineDone writes down how a machine ended by itself.
func (sb *Sandbox) machineDone(machine vm.Machine) {
	sb.op.Lock()
	defer sb.op.Unlock()
	if sb.current() != machine {
		return
	}
	_, client, lock := sb.letGo()
	defer lock.Unlock()
	if client != nil {
		_ = client.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := sb.ended(ctx, machine.Err()); err != nil && classify(err) != CodeNotFound {
		sb.m.log.Error("recording the end of a machine", "sandbox", sb.id, "err", err)
	}
}

// machineHalted lets those that wait for the guest know that it can't go on.
func (sb *Sandbox) machineHalted(machine vm.Machine, why error) {
	sb.mu.Lock()
	client, mine := sb.client, sb.machine == machine
	if mine {
		sb.client, sb.halted = nil, why
	}
	sb.mu.Unlock()
	if !mine {
		return
	}
	sb.m.log.Info("a machine was halted", "sandbox", sb.id, "why", why)
	if client != nil {
		_ = client.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// The disk being full, this may fail: then memory alone knows.
	if err := sb.save(ctx, func(i *Info) { i.Status, i.Reason = StatePaused, why.Error() }); err != nil {
		sb.m.log.Info("recording that a machine was halted", "sandbox", sb.id, "err", err)
	}
}

func (sb *Sandbox) ended(ctx context.Context, why error) error {
	return sb.save(ctx, func(i *Info) {
		i.Status, i.Reason, i.PID, i.Machine, i.AgentReady = StateStopped, "", 0, nil, false
		if why != nil {
			i.Status, i.Reason = StateFailed, why.Error()
		}
	})
}

// letGo takes the machine and all that goes with it out of the sandbox's hands.
func (sb *Sandbox) letGo() (vm.Machine, *agent.Client, *store.FileLock) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	machine, client, lock := sb.machine, sb.client, sb.lock
	if sb.away != nil {
		close(sb.away)
	}
	sb.machine, sb.client, sb.lock, sb.away, sb.halted = nil, nil, nil, nil, nil
	return machine, client, lock
}

// release leaves the machine running and forgets it.
func (sb *Sandbox) release() error {
	machine, client, lock := sb.letGo()
	var errs []error
	if client != nil {
		errs = append(errs, client.Close())
	}
	if machine != nil {
		errs = append(errs, machine.Release())
	}
	return errors.Join(append(errs, lock.Unlock())...)
}

// consoleTail is the end of what the guest printed, at most n bytes of it.
func consoleTail(machine vm.Machine, n int64) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := machine.Console(ctx)
	if err != nil {
		return ""
	}
	defer r.Close()
	b, _ := io.ReadAll(io.LimitReader(r, 4<<20))
	return strings.TrimSpace(strings.ToValidUTF8(string(b[max(0, int64(len(b))-n):]), "?"))
}

// matches reports whether have contains every value of want; a dotted key
// looks inside.
func matches(have, want map[string]any) bool {
	for k, v := range want {
		got, ok := have[k]
		for m := have; !ok; {
			head, rest, dotted := strings.Cut(k, ".")
			if !dotted {
				return false
			}
			if m, ok = m[head].(map[string]any); !ok {
				return false
			}
			k = rest
			got, ok = m[k]
		}
		if !reflect.DeepEqual(got, v) {
			return false
		}
	}
	return true
}

// remove deletes the sandbox's directory and record; its machine is gone.
func (m *Manager) remove(ctx context.Context, id string) error {
	if err := os.RemoveAll(m.store.Sandbox(id)); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.live, id)
	m.mu.Unlock()
	return m.store.Remove(ctx, id)
}
