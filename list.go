package bandsox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/bandsox/bandsox/internal/store"
)

// ListOptions filters a list. The zero value takes all.
type ListOptions struct {
	States []State           // only those in one of these states; none: in any
	Labels map[string]string // only those that have all these labels
	// Metadata takes only sandboxes whose metadata has these values; a dotted
	// key looks inside. A string also matches a number, true, false or null
	// that is written so.
	Metadata map[string]any
	Limit    int    // at most so many; 0: all
	After    string // the Cursor of the last one of the page before
}

// Cursor is where in a list the sandbox is: the next page of it comes After.
// It stays good when the sandbox is gone.
func (i Info) Cursor() string { return fmt.Sprintf("%d-%s", i.CreatedAt.UnixMicro(), i.ID) }

// List returns the sandboxes, the newest first.
func (m *Manager) List(ctx context.Context, o ListOptions) ([]Info, error) {
	after, err := parseCursor(o.After)
	if err != nil {
		return nil, err
	}
	for _, s := range o.States {
		if !slices.Contains(states[:], s) {
			return nil, invalid("list", "", "%q is no state: there are %v", s, states)
		}
	}
	all, err := m.infos(ctx)
	if err != nil {
		return nil, fail("list", "", err)
	}
	slices.SortFunc(all, newestFirst)
	list := []Info{}
	for _, next := range all {
		if o.After != "" && newestFirst(next, &after) <= 0 || !o.takes(next) {
			continue
		}
		info := *next
		// The states that are filtered by come after the look at the machine.
		if info, err = m.trueState(ctx, info); err != nil {
			return nil, fail("list", info.ID, err)
		}
		if info.Status == StateDeleted || len(o.States) > 0 && !slices.Contains(o.States, info.Status) {
			continue
		}
		if list = append(list, info); len(list) == o.Limit {
			break
		}
	}
	return list, nil
}

// infos are the records: those in memory of an owner, else those on disk.
func (m *Manager) infos(ctx context.Context) ([]*Info, error) {
	if m.cfg.Shared {
		rows, err := m.store.List(ctx)
		if err != nil {
			return nil, err
		}
		return m.decodeAll(rows), nil
	}
	sandboxes := m.known()
	all := make([]*Info, 0, len(sandboxes))
	for _, sb := range sandboxes {
		info := sb.known()
		all = append(all, &info)
	}
	return all, nil
}

// decodeAll reads records. One that is damaged hides no other.
func (m *Manager) decodeAll(rows []store.Sandbox) []*Info {
	all := make([]*Info, 0, len(rows))
	for _, row := range rows {
		info, err := decode(row)
		if err != nil {
			m.log.Error("skipping a damaged record", "sandbox", row.ID, "err", err)
			continue
		}
		all = append(all, &info)
	}
	return all
}

// known are the sandboxes in memory.
func (m *Manager) known() []*Sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*Sandbox, 0, len(m.live))
	for _, sb := range m.live {
		list = append(list, sb)
	}
	return list
}

func newestFirst(a, b *Info) int {
	return cmp.Or(cmp.Compare(b.CreatedAt.UnixMicro(), a.CreatedAt.UnixMicro()), cmp.Compare(a.ID, b.ID))
}

func parseCursor(s string) (at Info, err error) {
	if s == "" {
		return at, nil
	}
	micro, id, ok := strings.Cut(s, "-")
	n, err := strconv.ParseInt(micro, 10, 64)
	if !ok || err != nil || !store.ValidID(id) {
		return at, invalid("list", "", "%q is no cursor of a list", s)
	}
	at.ID, at.CreatedAt = id, epochMicro(n)
	return at, nil
}

// takes says whether the filters by what doesn't change by itself let info through.
func (o ListOptions) takes(info *Info) bool {
	for k, v := range o.Labels {
		if got, ok := info.Labels[k]; !ok || got != v {
			return false
		}
	}
	return matches(info.Metadata, o.Metadata)
}

// matches reports whether have contains every value of want; a dotted key
// looks inside.
func matches(have, want map[string]any) bool {
	for k, v := range want {
		got, ok := have[k]
		for m := have; !ok; {
			head, rest, dotted := strings.Cut(k, ".")
			if !dotted {
				return false
			}
			if m, ok = m[head].(map[string]any); !ok {
				return false
			}
			k = rest
			got, ok = m[k]
		}
		if !equal(got, v) {
			return false
		}
	}
	return true
}

// equal compares values of metadata. Numbers of Go's many types are one kind in JSON.
func equal(have, want any) bool {
	if reflect.DeepEqual(have, want) {
		return true
	}
	a, err1 := json.Marshal(have)
	b, err2 := json.Marshal(want)
	if err1 != nil || err2 != nil {
		return false
	}
	if text, ok := want.(string); ok {
		_, isText := have.(string)
		return !isText && string(a) == text
	}
	return string(a) == string(b)
}
