package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bandsox/bandsox/internal/wire"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_WRITER"); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func insert(t *testing.T, s *Store, name string) Sandbox {
	t.Helper()
	sb := Sandbox{ID: NewID(), Name: name, State: "running", Owner: s.Self(), Created: time.Now(), Record: []byte(`{"a":1}`)}
	if err := s.Insert(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	return sb
}

func wantCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if err == nil || wire.CodeOf(err) != code {
		t.Fatalf("got error %v, want one of code %s", err, code)
	}
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := insert(t, s, "one"), insert(t, s, "")
	insert(t, s, "") // no name is no clash

	wantCode(t, s.Insert(t.Context(), Sandbox{ID: NewID(), Name: "one", Created: time.Now(), Record: []byte("{}")}), wire.Conflict)
	b.Name = "one"
	wantCode(t, s.Update(t.Context(), b), wire.Conflict)
	b.Name, b.State, b.Record = "two", "stopped", []byte(`{"a":2}`)
	if err := s.Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}

	other := open(t, dir) // as another process would
	for ref, want := range map[string]Sandbox{a.ID: a, "one": a, b.ID: b, "two": b} {
		got, err := other.Find(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != want.ID || got.State != want.State || string(got.Record) != string(want.Record) || got.Owner != want.Owner ||
			!got.Created.Equal(want.Created.Truncate(0)) {
			t.Errorf("find %q: got %+v, want %+v", ref, got, want)
		}
	}
	list, err := other.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("list: %d rows, %v", len(list), err)
	}
	if err := s.Remove(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	_, err = other.Find(t.Context(), a.ID)
	wantCode(t, err, wire.NotFound)
	wantCode(t, s.Update(t.Context(), a), wire.NotFound)
	if err := s.Remove(t.Context(), a.ID); err != nil {
		t.Fatalf("removing twice: %v", err)
	}
}

func TestImages(t *testing.T) {
	s := open(t, t.TempDir())
	d1, d2 := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	for _, tag := range []struct{ ref, digest string }{{"a", d1}, {"b", d1}, {"a", d2}} {
		if err := s.TagImage(t.Context(), tag.ref, tag.digest); err != nil {
			t.Fatal(err)
		}
	}
	got, ok, err := s.Image(t.Context(), "a")
	if got != d2 || !ok || err != nil {
		t.Fatalf("a stands for %q %v %v", got, ok, err)
	}
	if err := s.UntagImage(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := s.Image(t.Context(), "a"); ok {
		t.Error("a is still there")
	}
	if list, err := s.Images(t.Context()); err != nil || len(list) != 1 || list[0].Ref != "b" {
		t.Errorf("images: %+v %v", list, err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), dir, true); err == nil || !strings.Contains(err.Error(), "newer BandSox") {
		t.Fatalf("got %v", err)
	}
}

func TestDamagedDatabaseIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := Layout(dir).make(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Layout(dir).Database(), []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, true); err == nil {
		t.Fatal("opened")
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if !ValidID(id) || seen[id] || ValidName(id) {
			t.Fatalf("bad id %q", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "../../../../../etc/pw", "ABCDEFGHIJKLMNOPQRST", strings.Repeat("a", 21)} {
		if ValidID(bad) {
			t.Errorf("%q is no id", bad)
		}
	}
	for _, bad := range []string{"", "-a", ".a", "a/b", "..", "a b", strings.Repeat("a", 64), "a\n"} {
		if ValidName(bad) {
			t.Errorf("%q is no name", bad)
		}
	}
	for _, bad := range []string{"sha256:../../x", "sha256:" + strings.Repeat("G", 64), strings.Repeat("a", 64), ""} {
		if ValidDigest(bad) {
			t.Errorf("%q is no digest", bad)
		}
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	l.Unlock()
	if l, err = Lock(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}

// A lock on a file that somebody removes in between keeps nobody out: TryLock
// must see that.
func TestLockOfRemovedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var mu sync.Mutex
	held := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				l, err := Lock(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				held++
				if held != 1 {
					t.Error("two hold the lock")
				}
				held--
				mu.Unlock()
				os.Remove(path) // the last thing a holder may do
				l.Unlock()
			}
		})
	}
	wg.Wait()
}

// A lock that was given up is free at once, even while processes are started:
// each has the open file of it for a moment.
func TestLockWhileProcessesStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	digest := "sha256:" + strings.Repeat("a", 64)
	if err := os.MkdirAll(filepath.Dir(Layout(filepath.Dir(path)).BasesLock()), 0o755); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer wg.Wait()
	defer stop()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = exec.Command("true").Run()
			}
		})
	}
	for range 100 {
		l, err := TryLock(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Unlock()
		if l, err = Layout(filepath.Dir(path)).TryLockBase(digest); err != nil {
			t.Fatal(err)
		}
		l.Unlock()
	}
}

func TestOwner(t *testing.T) {
	self := Self()
	if !self.Alive() {
		t.Error("this process is dead")
	}
	if (Owner{self.PID, self.StartTime + 1}).Alive() || (Owner{}).Alive() {
		t.Error("a pid alone is no owner")
	}
	if o, ok := parseOwner(self.String()); !ok || o != self {
		t.Errorf("got %v %v", o, ok)
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Skip("true ended before it could be looked at")
	}
	cmd.Wait()
	if (Owner{cmd.Process.Pid, start}).Alive() {
		t.Error("a process that ended is alive")
	}
}

func TestScratchOfTheDead(t *testing.T) {
	s := open(t, t.TempDir())
	dead := filepath.Join(s.ScratchDirs(), Owner{PID: 1 << 30, StartTime: 1}.String())
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := s.DeadScratch()
	if err != nil || len(got) != 1 || got[0] != dead {
		t.Fatalf("got %v %v", got, err)
	}
}

func TestWriteFileIsWholeOrNotThere(t *testing.T) {
	s := open(t, t.TempDir())
	path := filepath.Join(s.Bases(), "x.json")
	if err := s.WriteJSON(path, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if err := ReadJSON(path, &got); err != nil || got["a"] != 1 {
		t.Fatalf("got %v %v", got, err)
	}
	wantCode(t, ReadJSON(path+"no", &got), wire.NotFound)
	if err := s.WriteFile(filepath.Join(s.Dir(), "none", "x"), nil); err == nil {
		t.Fatal("wrote into a directory that isn't there")
	}
	if left, _ := os.ReadDir(s.Scratch()); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestKilledWriter kills a writing process again and again: every row that it
// said was written must be there.
func TestKilledWriter(t *testing.T) {
	if testing.Short() {
		t.Skip("short: kills writers")
	}
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf, n := make([]byte, idLen+1), 0
		for n < 40 {
			if _, err := out.Read(buf); err != nil {
				t.Fatal(err)
			}
			acknowledged[string(buf[:idLen])] = true
			n++
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	s := open(t, dir)
	list, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sb := range list {
		delete(acknowledged, sb.ID)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged rows are lost", len(acknowledged))
	}
}

func writeForEver(dir string) {
	s, err := Open(context.Background(), dir, true)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		id := NewID()
		if err := s.Insert(context.Background(), Sandbox{ID: id, Created: time.Now(), Record: []byte("{}")}); err != nil {
			os.Exit(1)
		}
		fmt.Println(id)
	}
}

// The bases' locks keep goroutines apart, each base's for itself, and leave one file.
func TestBaseLocks(t *testing.T) {
	l := Layout(t.TempDir())
	if err := l.make(); err != nil {
		t.Fatal(err)
	}
	a, b := "sha256:"+strings.Repeat("f", 64), "sha256:"+strings.Repeat("0", 64)
	held, err := l.LockBase(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.TryLockBase(a); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock of it: %v", err)
	}
	other, err := l.TryLockBase(b)
	if err != nil {
		t.Fatalf("another base's lock: %v", err)
	}
	other.Unlock() // must not give the first one up, as closing a file does with POSIX's own locks
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.LockBase(ctx, a); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for it: %v", err)
	}
	held.Unlock()
	if held, err = l.LockBase(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	held.Unlock()
	if files, err := os.ReadDir(l.Bases()); err != nil || len(files) != 1 {
		t.Errorf("left %v %v", files, err)
	}
}
