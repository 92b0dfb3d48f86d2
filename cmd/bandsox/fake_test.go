package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox/internal/vm/vmtest"
)

// newFake is a lab whose machines are processes of this host.
func newFake(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
	l := &lab{state: filepath.Join(t.TempDir(), "state"), image: vmtest.Image(t)}
	l.env = append(os.Environ(), "BANDSOX_STORAGE="+l.state, "BANDSOX_DRIVER=process", "HOME="+t.TempDir(),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	t.Cleanup(func() {
		if out, err := l.command("ps", "-a", "--ids").Output(); err == nil {
			for _, id := range strings.Fields(string(out)) {
				if out, err := l.command("rm", "-f", id).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			}
		}
		if out, err := l.command("serve", "--stop").CombinedOutput(); err != nil {
			t.Errorf("stopping the server: %v %s", err, out)
		}
	})
	return l
}

// says is what a command line prints, which must succeed.
func (l *lab) says(t *testing.T, args ...string) string {
	t.Helper()
	cmd := l.command(args...)
	var stderr output
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bandsox %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}
