package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bandsox/bandsox"
)

// typed runs a command line in this process and returns what it prints.
func typed(t *testing.T, args ...string) (string, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	was := os.Stdout
	os.Stdout = f
	defer func() { os.Stdout = was }()
	cmd := newRoot(&app{interrupts: &interrupts{}})
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(context.Background())
	if _, e := f.Seek(0, io.SeekStart); e != nil {
		t.Fatal(e)
	}
	b, e := io.ReadAll(f)
	if e != nil {
		t.Fatal(e)
	}
	return string(b), err
}

// TestUnitIsWritten where systemd looks for it, as it is printed, and removed.
func TestUnitIsWritten(t *testing.T) {
	config, state := t.TempDir(), filepath.Join(t.TempDir(), "a state")
	t.Setenv("XDG_CONFIG_HOME", config)
	was := systemdRuns
	defer func() { systemdRuns = was }()
	path := filepath.Join(config, "systemd/user", unitName)
	install := []string{"--storage", state, "serve", "--user", "--port", "9001", "--allow-host", "box", "--install"}

	systemdRuns = filepath.Join(config, "none")
	if _, err := typed(t, install...); !errors.Is(err, bandsox.ErrUnavailable) {
		t.Errorf("without systemd: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("without systemd a unit is there: %v", err)
	}

	systemdRuns = config
	said, err := typed(t, install...)
	if err != nil || !strings.Contains(said, path) || !strings.Contains(said, "systemctl --user enable --now "+unitName) || !strings.Contains(said, "journalctl --user -u") {
		t.Errorf("it says %q, %v", said, err)
	}
	unit, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Type=notify", `"` + state + `" serve`, "--port=9001", "--allow-host=box", "WantedBy=default.target"} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("no %s in\n%s", want, unit)
		}
	}
	if strings.Contains(string(unit), "--install") || strings.Contains(string(unit), "--user") {
		t.Errorf("flags about the unit are in it:\n%s", unit)
	}
	printed, err := typed(t, append(install[:len(install)-1:len(install)-1], "--print-unit")...)
	if err != nil || printed != string(unit) {
		t.Errorf("printed is another: %v\n%s", err, printed)
	}
	system, err := typed(t, "--storage", state, "serve", "--print-unit")
	if err != nil || !strings.Contains(system, `ReadWritePaths="`+state+`"`) || !strings.Contains(system, "WantedBy=multi-user.target") {
		t.Errorf("the system's: %v\n%s", err, system)
	}

	remove := []string{"serve", "--user", "--uninstall"}
	if said, err = typed(t, remove...); err != nil || !strings.Contains(said, "systemctl --user stop "+unitName) {
		t.Errorf("it says %q, %v", said, err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err = typed(t, remove...); !errors.Is(err, bandsox.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("the state directory was made: %v", err)
	}
}
