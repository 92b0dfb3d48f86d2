package bandsox

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{Name: "one", Metadata: map[string]any{"a": 1.0, "b": map[string]any{"c": "x", "d": "y"}},
		Labels: map[string]string{"team": "red"}, Env: map[string]string{"K": "1"}})
	create(t, m, CreateOptions{Name: "taken"})
	ctx := t.Context()
	two, taken, blue, ttl := "two", "taken", "blue", time.Hour
	err := sb.Update(ctx, Update{Name: &two, Metadata: map[string]any{"b": map[string]any{"c": nil, "e": true}, "a": nil},
		Labels: map[string]*string{"team": &blue, "none": nil}, Env: map[string]*string{"K": nil}, TTL: &ttl})
	if err != nil {
		t.Fatal(err)
	}
	check := func(i Info) {
		t.Helper()
		b, _ := json.Marshal(i.Metadata)
		if i.Name != "two" || string(b) != `{"b":{"d":"y","e":true}}` || i.Labels["team"] != "blue" || len(i.Labels) != 1 || len(i.Env) != 0 || i.ExpiresAt.IsZero() {
			t.Errorf("got %+v", i)
		}
	}
	info, err := sb.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	check(info)

	// What is refused is refused whole.
	short, bad := time.Millisecond, IdleAction("explode")
	for what, c := range map[string]struct {
		u    Update
		code Code
	}{
		"a name that is taken":  {Update{Name: &taken, Metadata: map[string]any{"z": 1}}, CodeConflict},
		"a bad name":            {Update{Name: new("../x"), Metadata: map[string]any{"z": 1}}, CodeInvalid},
		"a short time to live":  {Update{TTL: &short, Name: new("three")}, CodeInvalid},
		"a short idle timeout":  {Update{IdleTimeout: &short, Name: new("three")}, CodeInvalid},
		"an unknown action":     {Update{IdleAction: &bad, Name: new("three")}, CodeInvalid},
		"a bad variable":        {Update{Env: map[string]*string{"A=B": &blue}, Name: new("three")}, CodeInvalid},
		"metadata without JSON": {Update{Metadata: map[string]any{"f": func() {}}}, CodeInvalid},
	} {
		err := sb.Update(ctx, c.u)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v", what, err)
		}
		info, err := sb.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		check(info)
	}
	if got, err := m.Get(ctx, "two"); err != nil || got != sb {
		t.Errorf("by its new name: %v", err)
	}
	if _, err := m.Get(ctx, "one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("by its old name: %v", err)
	}
	if err := sb.Update(ctx, Update{Metadata: map[string]any{"only": "this"}, ReplaceMetadata: true}); err != nil {
		t.Fatal(err)
	}
	if info, _ := sb.Info(ctx); len(info.Metadata) != 1 || info.Metadata["only"] != "this" {
		t.Errorf("replaced: %v", info.Metadata)
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	image := testImage(t)
	ids := map[string]string{}
	for name, o := range map[string]CreateOptions{
		"a": {Labels: map[string]string{"team": "red"}, Metadata: map[string]any{"n": 5, "x": map[string]any{"y": "z"}}},
		"b": {Labels: map[string]string{"team": "blue", "on": ""}, Metadata: map[string]any{"n": 5.0, "s": "5"}},
		"c": {},
	} {
		o.Image, o.Name = image, name
		ids[create(t, m, o).ID()] = name
	}
	c, _ := m.Get(t.Context(), "c")
	if err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		o    ListOptions
		want string
	}{
		"all":            {ListOptions{}, "abc"},
		"stopped":        {ListOptions{States: []State{StateStopped, StateFailed}}, "c"},
		"a label":        {ListOptions{Labels: map[string]string{"team": "red"}}, "a"},
		"an empty label": {ListOptions{Labels: map[string]string{"on": ""}}, "b"},
		"no such label":  {ListOptions{Labels: map[string]string{"of": ""}}, ""},
		"a dotted key":   {ListOptions{Metadata: map[string]any{"x.y": "z"}}, "a"},
		"a number":       {ListOptions{Metadata: map[string]any{"n": 5}}, "ab"},
		"its text":       {ListOptions{Metadata: map[string]any{"n": "5"}}, "ab"},
		"text, a number": {ListOptions{Metadata: map[string]any{"s": 5}}, ""},
		"both":           {ListOptions{Labels: map[string]string{"team": "blue"}, States: []State{StateStopped}}, ""},
	} {
		list, err := m.List(t.Context(), c.o)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, i := range list {
			got[i.Name] = true
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %s", what, got, c.want)
		}
		for _, n := range c.want {
			if !got[string(n)] {
				t.Errorf("%s: %v, want %s", what, got, c.want)
			}
		}
	}
}

// TestListPages reads a list page by page while its sandboxes go: each that
// stays is seen once.
func TestListPages(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		m, err := openFakeWith(t.Context(), Config{Storage: t.TempDir(), Shared: shared})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shut(t, m) })
		image := testImage(t)
		for range 5 {
			create(t, m, CreateOptions{Image: image})
		}
		all, _ := m.List(t.Context(), ListOptions{})
		var got []string
		for after := ""; ; {
			page, err := m.List(t.Context(), ListOptions{Limit: 2, After: after})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, i := range page {
				got = append(got, i.ID)
			}
			last := page[len(page)-1]
			after = last.Cursor()
			sb, err := m.Get(t.Context(), last.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := sb.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != len(all) {
			t.Fatalf("pages: %v of %d", got, len(all))
		}
		for i := range all {
			if all[i].ID != got[i] {
				t.Errorf("place %d: %s, want %s", i, got[i], all[i].ID)
			}
		}
		if _, err := m.List(t.Context(), ListOptions{After: "nonsense"}); !errors.Is(err, ErrInvalid) {
			t.Errorf("a bad cursor: %v", err)
		}
	}
}

// TestUpdateOfARunningGuest: what is started after an update has the new
// variables and lacks those that are gone, and the guest has its new name.
func TestUpdateOfARunningGuest(t *testing.T) {
	t.Parallel()
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{Name: "one", Env: map[string]string{"A": "1", "B": "1"}})
	ctx := t.Context()
	check := func(want string) {
		t.Helper()
		cmd := sb.Shell("echo $A,$B,$C,$D,$HOSTNAME")
		cmd.Env = []string{"D=4"}
		if out, err := cmd.Output(ctx); err != nil || string(out) != want+"\n" {
			t.Errorf("got %q %v, want %q", out, err, want)
		}
	}
	check("1,1,,4,one")
	u := Update{Name: new("two"), Env: map[string]*string{"A": nil, "B": new("2"), "C": new("3"), "D": new("no")}}
	if err := sb.Update(ctx, u); err != nil {
		t.Fatal(err)
	}
	check(",2,3,4,two")
	if err := sb.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	u = Update{Name: new("three"), Env: map[string]*string{"B": nil, "C": nil}}
	if err := sb.Update(ctx, u); err != nil {
		t.Fatal(err)
	}
	if err := sb.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	check(",,,4,two")
	if err := sb.Restart(ctx, 0); err != nil {
		t.Fatal(err)
	}
	check(",,,4,three")
	large := strings.Repeat("x", maxEnvBytes)
	if err := sb.Update(ctx, Update{Env: map[string]*string{"A": &large}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("too much: %v", err)
	}
}
