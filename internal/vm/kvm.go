package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// KVM is what a probe found out about this host's hardware virtualisation.
type KVM struct {
	Works  bool          // a guest ran, took an exception through its own table and halted
	Exists bool          // there is a /dev/kvm
	Reason string        // why it doesn't work, or what was proved
	Hint   string        // the command that mends it, if there is one
	Took   time.Duration // what finding out took
}

const (
	kvmDevice  = "/dev/kvm"
	kvmPatient = 3 * time.Second // the guest needs 3 ms; 90 in an emulated machine, and a second in a busy one
	kvmGiveUp  = 4 * time.Second // when it can't even be interrupted
)

// errSpins is a guest that neither halts nor fails. It can also be a host too
// busy to run it, so it is not remembered.
var errSpins = errors.New("the test guest did not halt in time")

// errLeft is a guest that not even a signal gets the thread out of.
var errLeft = errors.New("the test guest can't be stopped: the thread that runs it was left behind")

var kvmCache struct {
	sync.Mutex
	found *KVM
}

// ProbeKVM finds out whether KVM runs guests, by running one. That /dev/kvm
// opens proves nothing: a paravirtual KVM answers every call and never gets a
// stock kernel to its first line. The answer is kept for the life of the
// process. It takes a few milliseconds, and four seconds at most: a vCPU that can't
// be interrupted costs its thread, which is left behind.
func ProbeKVM(ctx context.Context) KVM {
	kvmCache.Lock()
	defer kvmCache.Unlock()
	if kvmCache.found != nil {
		return *kvmCache.found
	}
	start := time.Now()
	k, err := probeKVM(ctx)
	k.Took = time.Since(start)
	if ctx.Err() == nil && !errors.Is(err, errSpins) {
		kvmCache.found = &k
	}
	return k
}

func probeKVM(ctx context.Context) (KVM, error) {
	fd, err := unix.Open(kvmDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return KVM{Exists: true, Reason: "no permission to open " + kvmDevice,
			Hint: "sudo usermod -aG kvm $USER, then log in again"}, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		reason, hint := whyNoKVM()
		return KVM{Reason: reason, Hint: hint}, nil
	case err != nil:
		return KVM{Exists: true, Reason: fmt.Sprintf("opening %s: %v", kvmDevice, err)}, nil
	}
	what, err := boundedGuest(ctx, fd, testGuest)
	if err != nil {
		k := KVM{Exists: true, Reason: err.Error()}
		if paravirtual() {
			k.Reason = "a paravirtual KVM (kvm_pvm), which does not run stock kernels: " + k.Reason
			k.Hint = "use a host with VT-x or AMD-V, or nested virtualisation; BandSox emulates until then"
		}
		return k, err
	}
	return KVM{Works: true, Exists: true, Reason: what}, nil
}

// whyNoKVM tells a missing module from a missing feature.
func whyNoKVM() (reason, hint string) {
	flags, _ := os.ReadFile("/proc/cpuinfo")
	has := func(flag string) bool { return strings.Contains(string(flags), " "+flag+" ") }
	switch {
	case has("vmx"):
		return "there is no " + kvmDevice + ", though the CPU has VT-x", "sudo modprobe kvm_intel"
	case has("svm"):
		return "there is no " + kvmDevice + ", though the CPU has AMD-V", "sudo modprobe kvm_amd"
	}
	return "there is no " + kvmDevice + ": the CPU offers no virtualisation here",
		"enable VT-x or AMD-V in the firmware, or nested virtualisation on the host of this machine"
}

// paravirtual reports whether the KVM here is the one that needs guest kernels
// of its own.
func paravirtual() bool {
	loaded := func(m string) bool { _, err := os.Stat("/sys/module/" + m); return err == nil }
	return loaded("kvm_pvm") && !loaded("kvm_intel") && !loaded("kvm_amd")
}

// vcpuRun is the thread that runs the test guest, for those who interrupt it.
type vcpuRun struct {
	tid  atomic.Int32
	late atomic.Bool // the guest had its time
}

// interrupt makes KVM_RUN return, if the thread is in it: so it is repeated.
func (r *vcpuRun) interrupt() {
	r.late.Store(true)
	if tid := r.tid.Load(); tid != 0 {
		_ = unix.Tgkill(unix.Getpid(), int(tid), unix.SIGURG)
	}
}

// boundedGuest runs the test guest on a thread of its own and takes fd over. A
// thread in KVM_RUN heeds nothing but a signal, so it is sent one when the time
// is up: SIGURG, which the Go runtime expects at any time.
func boundedGuest(ctx context.Context, fd int, code []byte) (what string, err error) {
	run, done := new(vcpuRun), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer unix.Close(fd)
		run.tid.Store(int32(unix.Gettid()))
		what, err = runTestGuest(fd, code, run)
	}()
	patient, giveUp := time.NewTimer(kvmPatient), time.NewTimer(kvmGiveUp)
	defer patient.Stop()
	defer giveUp.Stop()
	select {
	case <-done:
		return what, err
	case <-patient.C:
	case <-ctx.Done():
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		run.interrupt()
		select {
		case <-done:
			if err == nil {
				return what, nil
			}
			return "", errors.Join(err, ctx.Err())
		case <-giveUp.C:
			return "", errLeft
		case <-again.C:
		}
	}
}
