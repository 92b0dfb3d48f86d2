package bandsox

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

func diagnose(t *testing.T, o DoctorOptions) (Report, map[string]Check) {
	t.Helper()
	if o.Storage == "" {
		o.Storage = t.TempDir()
	}
	r, err := Doctor(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Check{}
	for _, c := range r.Checks {
		if byName[c.Name].Name != "" {
			t.Errorf("two checks named %q", c.Name)
		}
		if c.Status != StatusOK && c.Status != StatusWarning && c.Status != StatusMissing {
			t.Errorf("%s: status %q", c.Name, c.Status)
		}
		if c.Detail == "" || c.Why == "" {
			t.Errorf("%s: detail %q, why %q", c.Name, c.Detail, c.Why)
		}
		if c.Status == StatusOK && c.Fix != "" {
			t.Errorf("%s is well and to be mended by %q", c.Name, c.Fix)
		}
		if c.Status == StatusMissing && c.Fix == "" {
			t.Errorf("%s is missing (%s) and nothing mends it", c.Name, c.Detail)
		}
		byName[c.Name] = c
	}
	return r, byName
}

func TestDoctorWithNothing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	r, checks := diagnose(t, DoctorOptions{Registry: "127.0.0.1:1"})
	if r.OK {
		t.Error("no QEMU, and sandboxes can run?")
	}
	for name, want := range map[string]Status{
		"qemu": StatusMissing, "kernel": StatusMissing,
		"mmdebstrap": StatusWarning, "firecracker": StatusWarning, "registry": StatusWarning, "docker": StatusWarning,
	} {
		if got := checks[name].Status; got != want {
			t.Errorf("%s: %s (%s), want %s", name, got, checks[name].Detail, want)
		}
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"missing  qemu", "fix: " + checks["qemu"].Fix, "fix: " + checks["kernel"].Fix, "No sandbox can run here"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in:\n%s", want, text.String())
		}
	}
}

func TestDoctorJSON(t *testing.T) {
	r, _ := diagnose(t, DoctorOptions{Registry: "127.0.0.1:1"})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Checks) != len(r.Checks) || back.OK != r.OK || len(back.Drivers) == 0 || back.Storage != r.Storage {
		t.Errorf("%+v came back as %+v", r, back)
	}
}

func TestDoctorRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	_, checks := diagnose(t, DoctorOptions{Registry: server.Listener.Addr().String()})
	if c := checks["registry"]; c.Status != StatusOK {
		t.Errorf("a registry that answers: %+v", c)
	}
}

// A registry that takes the connection and says nothing ends in a warning.
func TestDoctorSilentRegistry(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, checks := diagnose(t, DoctorOptions{Registry: l.Addr().String()})
	if c := checks["registry"]; c.Status != StatusWarning || c.Fix == "" {
		t.Errorf("a registry that never answers: %+v", c)
	}
}
