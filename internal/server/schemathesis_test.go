package server_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/internal/auth"
	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// TestSchemathesis holds the server to its own document: what that says it takes
// and what it says it refuses is sent by the thousand. With the variable
// BANDSOX_SCHEMATHESIS set to seconds it makes things up for so long too.
func TestSchemathesis(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	long := os.Getenv("BANDSOX_SCHEMATHESIS")
	for _, phase := range []string{"coverage", "fuzzing"} {
		t.Run(phase+", with keys", func(t *testing.T) {
			if phase == "fuzzing" && long == "" {
				t.Skip("BANDSOX_SCHEMATHESIS=60 has it go on with what it makes up")
			}
			h := newHouseWith(t, auth.Options{})
			first, err := h.keys.Init(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			schemathesis(t, h, first.KeyID, "--phases", phase, "--header", "Authorization: Bearer "+first.Key)
		})
	}
	t.Run("stateful, without keys", func(t *testing.T) {
		// Who may do nothing without a key is no question where there are none.
		schemathesis(t, newHouse(t), "", "--phases", "stateful", "--exclude-checks", "ignored_auth")
	})
}

func schemathesis(t *testing.T, h *house, key string, options ...string) {
	image := vmtest.Image(t)
	keep, spare := h.create(bandsox.CreateOptions{Image: image}), h.create(bandsox.CreateOptions{Image: image})
	script, err := filepath.Abs("../../scripts/schemathesis.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, script, append([]string{h.URL, "--max-time", cmp.Or(os.Getenv("BANDSOX_SCHEMATHESIS"), "10")}, options...)...)
	run.Dir = t.TempDir()
	run.Env = append(os.Environ(), "BANDSOX_IMAGE="+image, "BANDSOX_KEEP="+keep.ID(), "BANDSOX_SPARE="+spare.ID(), "BANDSOX_KEY_ID="+key)
	run.WaitDelay = time.Second
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	err = run.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 77:
		t.Skipf("%s", bytes.TrimSpace(out.Bytes()))
	case err != nil:
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	if info, err := keep.Info(t.Context()); err != nil || info.Status != bandsox.StateRunning {
		t.Errorf("the sandbox that was to be kept: %v %v: the routes about one were tried in vain", info.Status, err)
	}
	t.Logf("%s", out.Bytes())
}
