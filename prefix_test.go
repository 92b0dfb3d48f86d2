package bandsox

import (
	"errors"
	"strings"
	"testing"
)

// TestBeginningOfAnID: enough of an id to tell it from others stands for it, for
// an owner and for those that share a state directory; a name wins.
func TestBeginningOfAnID(t *testing.T) {
	dir := t.TempDir()
	m := newManager(t, dir)
	a := create(t, m, CreateOptions{})
	named := create(t, m, CreateOptions{Name: a.ID()[:6]})
	twin := "abcd0000000000000000"
	check := func(m *Manager) {
		t.Helper()
		for ref, want := range map[string]string{
			a.ID(): a.ID(), a.ID()[:19]: a.ID(), a.ID()[:7]: a.ID(), a.ID()[:6]: named.ID(),
			named.ID()[:8]: named.ID(), a.ID()[:3]: "", a.ID() + "x": "", a.ID()[:3] + "_": "", a.ID()[:2] + "%%": "", "": "",
		} {
			sb, err := m.Get(t.Context(), ref)
			switch {
			case want == "" && !errors.Is(err, ErrNotFound):
				t.Errorf("%q: %v, want not_found", ref, err)
			case want != "" && (err != nil || sb.ID() != want):
				t.Errorf("%q: %v %v, want %s", ref, sb, err, want)
			}
		}
	}
	check(m)
	// Two that begin alike, which chance would hardly make.
	for _, last := range []string{"1", "2"} {
		info := a.known()
		info.ID, info.Name, info.Status, info.Machine, info.PID = twin[:19]+last, "", StateStopped, nil, 0
		row, err := encode(info, a.owner)
		if err == nil {
			err = m.store.Insert(t.Context(), row)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		m.live[info.ID] = newSandbox(m, info, row.Owner)
		m.mu.Unlock()
	}
	if _, err := m.Get(t.Context(), twin[:5]); !errors.Is(err, ErrConflict) {
		t.Errorf("in memory: %v, want a conflict", err)
	}
	if sb, err := m.Get(t.Context(), twin[:19]+"2"); err != nil || sb.ID() != twin[:19]+"2" {
		t.Errorf("the whole id of one of two: %v %v", sb, err)
	}
	if _, err := m.store.Begun(t.Context(), twin[:5]); !errors.Is(fail("get", "", err), ErrConflict) {
		t.Errorf("on disk: %v, want a conflict", err)
	}
	if row, err := m.store.Begun(t.Context(), a.ID()[:7]); err != nil || row.ID != a.ID() {
		t.Errorf("on disk: %v %v", row.ID, err)
	}
	if _, err := m.store.Begun(t.Context(), "____"); !errors.Is(fail("get", "", err), ErrNotFound) {
		t.Errorf("on disk: %v, want not_found", err)
	}
}

// TestWorkingDirectoryIsNotInvented: one that was asked for must be there.
func TestWorkingDirectoryIsNotInvented(t *testing.T) {
	m := newManager(t, t.TempDir())
	sb := create(t, m, CreateOptions{})
	cmd := sb.Command("true")
	cmd.Dir = "/not/there"
	if err := cmd.Run(t.Context()); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"/not/there": there is no such directory`) {
		t.Errorf("got %v", err)
	}
	if _, err := sb.Stat(t.Context(), "/not"); !errors.Is(err, ErrNotFound) {
		t.Errorf("it was made: %v", err)
	}
}
