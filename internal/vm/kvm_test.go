package vm

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestProbeKVM checks that the answer hangs together, and where the host's
// kernel tells what kind of KVM it has, that the answer agrees.
func TestProbeKVM(t *testing.T) {
	k := ProbeKVM(t.Context())
	t.Logf("%+v", k)
	_, err := os.Stat(kvmDevice)
	if k.Exists != (err == nil) {
		t.Errorf("Exists = %v, but stat %s: %v", k.Exists, kvmDevice, err)
	}
	if k.Works && !k.Exists {
		t.Error("it works without existing")
	}
	if k.Reason == "" {
		t.Error("no reason given")
	}
	if !k.Works && !k.Exists && k.Hint == "" {
		t.Error("no hint for what can be mended")
	}
	if paravirtual() && (k.Works || (os.Geteuid() == 0 && !strings.Contains(k.Reason, "paravirtual"))) {
		t.Error("a paravirtual KVM was not found out")
	}
}

func TestProbeKVMIsRemembered(t *testing.T) {
	first := ProbeKVM(t.Context())
	if again := ProbeKVM(t.Context()); again != first {
		t.Errorf("first %+v, then %+v", first, again)
	}
}

// TestProbeKVMCancelled: a caller who gave up must not decide for the next one.
func TestProbeKVMCancelled(t *testing.T) {
	kvmCache.Lock()
	kept := kvmCache.found
	kvmCache.found = nil
	kvmCache.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ProbeKVM(ctx)
	kvmCache.Lock()
	defer kvmCache.Unlock()
	if kvmCache.found != nil {
		t.Error("the answer of a cancelled probe was kept")
	}
	kvmCache.found = kept
}
