package agentbin

import (
	"bytes"
	"debug/elf"
	"runtime"
	"testing"
)

func TestAgent(t *testing.T) {
	if _, ok := Agent("no-such-arch"); ok {
		t.Error("an agent for no-such-arch")
	}
	b, ok := Agent(runtime.GOARCH)
	if !ok {
		t.Skip("needs the embedded agent: built by make, not by go test alone")
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the agent is not static: images need not have a loader")
		}
	}
	// The bar. It is in every guest's memory and in every initramfs.
	if limit := 3_000_000; len(b) > limit {
		t.Errorf("the agent has %d bytes, more than %d", len(b), limit)
	}
}
