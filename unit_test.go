package bandsox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestErrorsHaveClasses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{
		{wire.Errorf(CodeConflict, "x"), CodeConflict},
		{fmt.Errorf("around: %w", wire.Errorf(CodeExhausted, "x")), CodeExhausted},
		{context.DeadlineExceeded, CodeTimeout},
		{context.Canceled, CodeUnavailable},
		{&os.PathError{Op: "write", Path: "p", Err: syscall.ENOSPC}, CodeExhausted},
		{fs.ErrPermission, CodeDenied},
		{errors.New("anything"), CodeInternal},
	} {
		err := fail("create", "alpine", c.err)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.want || !errors.Is(err, sentinel(c.want)) || !errors.Is(err, c.err) {
			t.Errorf("%v: got %#v, want code %s", c.err, err, c.want)
		}
		if again := fail("outer", "x", err); again != err {
			t.Errorf("the innermost operation must stay: %v", again)
		}
	}
	if fail("create", "", nil) != nil {
		t.Error("no error became one")
	}
	e := fail("create", "alpine", wire.Errorf(CodeNotFound, "no such image").WithHint("try this"))
	if e.Error() != "create alpine: no such image" || e.(*Error).Hint != "try this" {
		t.Errorf("got %q, hint %q", e, e.(*Error).Hint)
	}
}

func TestCreateOptionsAreChecked(t *testing.T) {
	good := func() CreateOptions { o := CreateOptions{Image: "alpine"}; o.defaults(); return o }
	if o := good(); o.check() != nil || o.VCPU != 1 || o.MemMiB != 128 || o.DiskSizeMiB != 4096 {
		t.Errorf("the defaults are not good: %+v %v", o, o.check())
	}
	for what, spoil := range map[string]func(*CreateOptions){
		"no image":        func(o *CreateOptions) { o.Image = "" },
		"no cpu":          func(o *CreateOptions) { o.VCPU = -1 },
		"many cpus":       func(o *CreateOptions) { o.VCPU = 1000 },
		"little memory":   func(o *CreateOptions) { o.MemMiB = 1 },
		"negative disk":   func(o *CreateOptions) { o.DiskSizeMiB = -5 },
		"a path as name":  func(o *CreateOptions) { o.Name = "../x" },
		"an id as name":   func(o *CreateOptions) { o.Name = strings.Repeat("a", 20) },
		"policy":          func(o *CreateOptions) { o.Pull = "sometimes" },
		"= in a variable": func(o *CreateOptions) { o.Env = map[string]string{"A=B": "c"} },
		"NUL in a value":  func(o *CreateOptions) { o.Env = map[string]string{"A": "\x00"} },
		"big metadata":    func(o *CreateOptions) { o.Metadata = map[string]any{"a": strings.Repeat("x", maxMetadataBytes)} },
		"odd metadata":    func(o *CreateOptions) { o.Metadata = map[string]any{"a": func() {}} },
	} {
		o := good()
		spoil(&o)
		if err := o.check(); classify(err) != CodeInvalid || err == nil {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestInfoTravelsAsJSON(t *testing.T) {
	in := Info{ID: "a", Status: StateRunning, CreatedAt: Epoch{time.UnixMicro(1_700_000_000_123_456)}, Metadata: map[string]any{"k": "v"}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"created_at":1700000000.123456`) || !strings.Contains(string(b), `"status":"running"`) {
		t.Errorf("got %s", b)
	}
	var out Info
	if err := json.Unmarshal(b, &out); err != nil || !out.CreatedAt.Equal(in.CreatedAt.Time) {
		t.Errorf("got %+v %v", out, err)
	}
	var zero Epoch
	if b, _ := json.Marshal(zero); json.Unmarshal(b, &zero) != nil || !zero.IsZero() {
		t.Errorf("the zero time became %v by way of %s", zero, b)
	}
}

func TestMetadataFilter(t *testing.T) {
	have := map[string]any{"a": "1", "b": map[string]any{"c": 2.0, "d.e": true}, "x.y": "plain"}
	for want, ok := range map[string]bool{
		`{}`: true, `{"a":"1"}`: true, `{"a":"2"}`: false, `{"b.c":2}`: true, `{"b.c":3}`: false,
		`{"x.y":"plain"}`: true, `{"b.d.e":true}`: true, `{"none":null}`: false, `{"a.b":"1"}`: false, `{"a":"1","b.c":2}`: true,
	} {
		var w map[string]any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		if matches(have, w) != ok {
			t.Errorf("%s: got %v", want, !ok)
		}
	}
}

func TestExitErrorsSpeak(t *testing.T) {
	for want, e := range map[string]*ExitError{
		"exit status 3":                   {Code: 3},
		"timed out":                       {Code: 137, Signal: 9, Timeout: true},
		"the sandbox has 128 MiB":         {Code: 137, Signal: 9, OOM: true, MemMiB: 128},
		"ended by signal 15 (terminated)": {Code: 143, Signal: 15},
	} {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

func TestUndoRunsBackwardsAndToTheEnd(t *testing.T) {
	var got []string
	var s stack
	for _, n := range []string{"a", "b", "c"} {
		s.push(n, func(context.Context) error { got = append(got, n); return errors.New("no") })
	}
	s.run(&Manager{log: discardLog()})
	if strings.Join(got, "") != "cba" {
		t.Errorf("got %v", got)
	}
}
